// The matrix: a section for each run, a square for each recipe, method and quantizer.

const NARROW = matchMedia("(max-width: 1100px)");

function matrixView(now) {
  const shown = through(CELLS, now);
  const sections = PAGE.runs.map((run, number) => {
    const mine = shown.filter((cell) => cell.run === number);
    const relations = through(RELATIONS, now).filter((cell) => cell.run === number);
    return mine.length || relations.length ? runSection(run, number, mine, relations, now) : null;
  });
  return [
    h("h1", { class: "unseen" }, "Matrix"),
    h("div", { class: "tools" }, figureChoice(now), legend(now.figure)),
    shown.length || sections.some(Boolean) ? sections : nothing(),
  ];
}

/** Which figure stands in squares and sparklines. */
function figureChoice(now) {
  const choose = ({ target }) => go({ figure: target.value === PAGE.figures[0].name ? null : target.value });
  return h("label", { class: "field" }, h("span", {}, "figure"),
    h("select", { name: "figure", onchange: choose },
      PAGE.figures.map((one) => h("option", { value: one.name, selected: one === now.figure }, one.label))));
}

const legend = (figure) =>
  h("p", { class: "legend" }, `cells by outcome, worst first; below, the ${figure.worst} ${figure.label}`);

function runSection(run, number, cells, relations, now) {
  return h("section", { class: "run" },
    h("h2", {}, run.environment, h("span", { class: "on" }, ` on ${run.hardware}`)),
    h("p", { class: "about" }, [run.moment, run.system, versionsLine(run)].filter(Boolean).join(" · ")),
    run.interrupted && h("p", { class: "interrupted" }, run.interrupted),
    h("p", { class: "counts" }, cells.length > 0 && tally(cells),
      relations.length > 0 && h("span", { class: "of" },
        h("a", { href: address({ view: "relations", ...ofRun(run) }) }, "relations"), " ", tally(relations))),
    [...parted(cells, (cell) => cell.options.backend ?? "")].map(([backend, mine], _, all) => [
      all.length > 1 && h("h3", {}, `backend ${backend}`), squares(mine, number, now)]),
    reasonsOf([...cells, ...relations]));
}

/** Filters that leave one run. */
const ofRun = (run) => filters({ environment: run.environment, hardware: run.hardware });

const versionsLine = (run) =>
  Object.entries(run.named).map(([name, version]) => `${name} ${version}`).join(", ");

/** The table of one run; on a narrow screen one for each recipe, since all would not fit. */
function squares(cells, number, now) {
  const mine = parted(cells, (cell) => option(cell, "recipe"));
  const recipes = mostFirst(cells, "recipe").map((name) => [name, mine.get(name)]);
  const groups = NARROW.matches ? recipes.map((one) => [one]) : [recipes];
  return h("div", { class: "recipes" }, groups.map((group) => squaresTable(group, number, now)));
}

const option = (cell, axis) => cell.options[axis] ?? ABSENT;

const PLACE = ["recipe", "method", "quantizer"];

function squaresTable(group, number, now) {
  const cells = group.flatMap(([, mine]) => mine);
  const quantizers = [...new Set(cells.map((cell) => option(cell, "quantizer")))].sort(inOrder);
  const columns = group.flatMap(([recipe, mine]) => mostFirst(mine, "method").map((method) => ({ recipe, method })));
  const places = parted(cells, (cell) => JSON.stringify(PLACE.map((axis) => option(cell, axis))));
  const edge = (one) => one > 0 && columns[one - 1].recipe !== columns[one].recipe;
  const span = (recipe) => columns.filter((one) => one.recipe === recipe).length;
  return h("div", { class: "wide" }, h("table", { class: "matrix", onkeydown: byArrows },
    h("thead", {},
      h("tr", {}, h("td", {}), group.map(([recipe], one) =>
        h("th", { scope: "colgroup", class: one > 0 && "edge", colspan: span(recipe), title: recipe }, brief(recipe)))),
      h("tr", {}, h("th", { scope: "col", class: "corner" }, "quantizer"), columns.map((one, place) =>
        h("th", { scope: "col", class: edge(place) && "edge", title: one.method }, one.method === ABSENT ? "" : brief(one.method))))),
    h("tbody", {}, quantizers.map((quantizer) => h("tr", {},
      h("th", { scope: "row", title: quantizer }, brief(quantizer)),
      columns.map(({ recipe, method }, place) => {
        const mine = places.get(JSON.stringify([recipe, method, quantizer]));
        return h("td", { class: edge(place) && "edge", "data-outcome": mine && worst(mine) },
          mine && square(mine, { recipe, method, quantizer }, number, now));
      }))))));
}

/** The options of an axis, those of most cells first. */
const mostFirst = (cells, axis) =>
  [...parted(cells, (cell) => option(cell, axis))].sort((a, b) => b[1].length - a[1].length || a[0].localeCompare(b[0])).map(([name]) => name);

/** Quantizers as every view has them; the axis that a cell lacks stands first. */
const inOrder = (a, b) => PAGE.quantizers.indexOf(a) - PAGE.quantizers.indexOf(b);

const worst = (cells) => OUTCOMES.find((one) => cells.some((cell) => cell.outcome === one.name)).name;

/** A square: it leads to its cells, or to its only one. */
function square(cells, place, number, now) {
  const run = PAGE.runs[number];
  const chosen = { view: "cells", ...filters(place), ...ofRun(run) };
  const href = cells.length === 1 ? cellAddress(cells[0]) : address(chosen);
  const figure = extreme(cells.map((cell) => cell.figures[now.figure.name]), now.figure.worst);
  return h("a", { class: "square", href, title: hint(cells) },
    h("span", { class: "symbols" }, tally(cells, false)),
    h("span", { class: "figure" }, figure === undefined ? "" : withUnit(now.figure, figure)));
}

function extreme(values, which) {
  const known = values.filter((one) => one !== undefined);
  if (!known.length) return undefined;
  return which === "largest" ? Math.max(...known) : Math.min(...known);
}

/** Why not all of some cells passed: what stands on a square when one points at it. */
function hint(cells) {
  const bad = cells.filter((cell) => cell.outcome !== "passed");
  const why = [...parted(bad, (cell) => `${OUTCOME.get(cell.outcome).symbol} ${cell.reason}`)];
  const lines = why.slice(0, 6).map(([reason, mine]) => `${reason}${mine.length > 1 ? ` (${mine.length} cells)` : ""}`);
  if (why.length > 6) lines.push(`and ${why.length - 6} other reasons`);
  return lines.join("\n") || plural(cells.length, "cell") + " passed";
}

/** The same for a whole run, in text. */
function reasonsOf(cells) {
  const those = cells.filter((cell) => cell.outcome !== "passed");
  const groups = [...parted(those, (cell) => JSON.stringify([cell.outcome, cell.link, cell.reason])).values()];
  groups.sort((a, b) => OUTCOME.get(a[0].outcome).rank - OUTCOME.get(b[0].outcome).rank);
  if (!groups.length) return null;
  const bad = groups.filter(([one]) => ["error", "failed", "unavailable"].includes(one.outcome)).length;
  return h("details", { class: "reasons", open: bad > 0 },
    h("summary", {}, `Why not all passed: ${plural(groups.length, "reason")}`),
    h("ul", {}, groups.map((group) => h("li", {},
      mark(group[0].outcome), h("p", { class: "reason" }, group[0].reason || "no reason was recorded"),
      group[0].link && h("p", { class: "link" }, outside(group[0].link)),
      h("p", { class: "ids" }, group.map((cell) => [h("a", { href: cellAddress(cell) }, cell.id), " "]))))));
}

/** Arrow keys go from square to square. */
function byArrows(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const from = event.target.closest("td");
  if (!step || !from) return;
  const rows = [...event.currentTarget.tBodies[0].rows];
  let [row, column] = [rows.indexOf(from.parentElement), from.cellIndex];
  for (;;) {
    [row, column] = [row + step[0], column + step[1]];
    const next = rows[row]?.cells[column];
    if (!next) return;
    const link = next.querySelector("a");
    if (link) {
      event.preventDefault();
      link.focus();
      return;
    }
  }
}

const nothing = () => h("p", { class: "note" }, "Nothing is left by these filters. ",
  h("a", { href: address(cleared()) }, "Show everything"));
