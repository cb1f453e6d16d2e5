// The list of cells: every axis and figure can be sorted by; a narrow screen folds each row.

const AT_ONCE = 400;

function cellsView(now) {
  const found = sorted(through(CELLS, now), now);
  if (!found.length) return [h("h1", { class: "unseen" }, "Cells"), nothing()];
  const shown = now.all ? found : found.slice(0, AT_ONCE);
  const columns = columnsFor(found, now);
  const history = found.some((cell) => cell.past.length);
  return [
    h("h1", { class: "unseen" }, "Cells"),
    h("div", { class: "tools" }, figureChoice(now), sortChoice(now), h("p", { class: "counts" }, tally(found))),
    table("cells", [
      heading("outcome", "", now), heading("cell", "cell", now),
      columns.axes.map((axis) => heading(axis, axis, now)),
      columns.figures.map((one) => heading(one.name, labelled(one), now, "number")),
      history && column(`${now.figure.label}, earlier runs`),
    ], shown.map((cell) => cellRow(cell, columns, history, now))),
    shown.length < found.length && h("p", { class: "note" },
      h("a", { href: address({ all: 1 }) }, `Show the other ${fixed(found.length - shown.length, 0)} cells`)),
  ];
}

/** Axes in which these cells differ, as many as there is room for, and the one that is sorted by. */
function columnsFor(found, now) {
  const sort = now.sort.replace(/^-/, "");
  const axes = AXES.map((axis) => axis.name);
  const differ = (name) => new Set(found.map((cell) => cell.options[name])).size > 1;
  const first = axes.filter((name) => name !== "backend" && differ(name)).slice(0, NARROW.matches ? 3 : 6);
  if (axes.includes(sort) && !first.includes(sort)) first.push(sort);
  const figures = PAGE.figures.filter((one, place) => place < 4 || one === now.figure || one.name === sort);
  return { axes: first, figures: figures.filter((one) => found.some((cell) => one.name in cell.figures)) };
}

/** A heading that sorts, and says so. */
function heading(name, label, now, kind) {
  const is = now.sort === name ? "ascending" : now.sort === `-${name}` ? "descending" : null;
  const next = is === "ascending" ? `-${name}` : is === "descending" ? null : name;
  const way = is === "ascending" ? "↑" : is ? "↓" : label ? "" : "↕";
  return h("th", { scope: "col", class: kind, "aria-sort": is },
    h("button", { type: "button", onclick: () => go({ sort: next }), title: `sort by ${name}` },
      label || h("span", { class: "unseen" }, name), h("span", { class: "way", "aria-hidden": true }, way)));
}

function sortChoice(now) {
  const names = ["outcome", "cell", ...AXES.map((axis) => axis.name), ...PAGE.figures.map((one) => one.name)];
  const label = (name) => FIGURE.get(name)?.label ?? name;
  const chosen = now.sort.replace(/^-/, "");
  const isTurned = now.sort.startsWith("-");
  const turn = () => go({ sort: isTurned ? chosen : `-${chosen}` });
  return h("span", { class: "field" },
    h("label", { class: "field" }, h("span", {}, "sort by"),
      h("select", { name: "sort", onchange: (event) => go({ sort: event.target.value }) },
        h("option", { value: "" }, "order of recording"),
        names.map((name) => h("option", { value: name, selected: name === chosen }, label(name))))),
    chosen && h("button", { type: "button", onclick: turn, title: "the other way round" }, isTurned ? "↓" : "↑"));
}

function cellRow(cell, columns, history, now) {
  return h("tr", {},
    h("td", { class: "outcome" }, mark(cell.outcome, false)),
    h("th", { scope: "row", class: "id" }, h("a", { href: cellAddress(cell) }, cell.id),
      cell.reason && h("p", { class: "reason" }, cell.reason)),
    columns.axes.map((axis) => h("td", { class: "option", title: cell.options[axis] }, brief(cell.options[axis] ?? ABSENT))),
    columns.figures.map((one) =>
      h("td", { class: "number", "data-label": one.label, "data-unit": one.name in cell.figures && one.unit }, bare(one, cell.figures[one.name]))),
    history && h("td", { class: "past" }, cell.past.length > 0 && sparkline(cell, now.figure)));
}
