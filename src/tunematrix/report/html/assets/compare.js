// Two runs, side by side: what differs, what ended otherwise, and how figures have moved.

const MOST_ROWS = 400;
/** A bar of full length is this far from 1 at least, so that a run like the other looks like it. */
const LEAST_RATIO = 1.1;

function compareView(now) {
  const pair = PAGE.comparisons[now.pair];
  if (!pair) {
    return [h("h1", { class: "unseen" }, "Compare"), h("p", { class: "note" },
      "There are no two runs of one environment to compare. Give files of several runs or machines.")];
  }
  return [
    h("h1", { class: "unseen" }, "Compare"),
    h("div", { class: "tools" }, pairChoice(now), figureChoice(now)),
    h("p", { class: "pair" }, h("span", { class: "quiet" }, "before "), pair.before, h("br"),
      h("span", { class: "quiet" }, "after "), pair.after),
    section("What differs", pair.moves.length
      ? table("plain moves", null, pair.moves.map((one) => h("tr", {},
        h("th", { scope: "row" }, one.name), h("td", {}, one.before), h("td", { class: "quiet" }, "→"), h("td", {}, one.after))))
      : h("p", { class: "quiet" }, "Nothing that was recorded of machine and versions.")),
    flips(pair),
    ratios(pair, now),
  ];
}

function pairChoice(now) {
  if (PAGE.comparisons.length < 2) return null;
  return h("label", { class: "field pair" }, h("span", {}, "runs"),
    h("select", { name: "pair", onchange: (event) => go({ pair: event.target.value }) },
      PAGE.comparisons.map((one, number) =>
        h("option", { value: number, selected: number === now.pair }, `${one.before} → ${one.after}`))));
}

const inPair = (pair, id) =>
  inRun(pair.after_run, id) ?? (pair.before_run === null ? null : inRun(pair.before_run, id));

const named = (pair, id) => {
  const cell = inPair(pair, id);
  return cell ? h("a", { href: cellAddress(cell) }, id) : id;
};

/** Cells that ended otherwise. */
function flips(pair) {
  const moved = pair.cells.filter((cell) => cell.outcomes[0] !== cell.outcomes[1]);
  const outcome = (name) => name === null ? h("span", { class: "quiet" }, "not run") : mark(name);
  return section("Outcomes",
    h("p", {}, `${fixed(pair.same, 0)} cells and relations ended alike${moved.length ? `, and ${fixed(moved.length, 0)} did not` : ""}.`),
    moved.length > 0 && table("plain flips", null, moved.map((cell) => h("tr", {},
      h("th", { scope: "row", class: "id" }, named(pair, cell.id), cell.reason && h("p", { class: "reason" }, cell.reason)),
      h("td", {}, outcome(cell.outcomes[0])), h("td", { class: "quiet" }, "→"), h("td", {}, outcome(cell.outcomes[1]))))));
}

/** One figure in both, of cells that passed in both; farthest off first. */
function ratios(pair, now) {
  const rows = pair.cells
    .filter((cell) => cell.outcomes.every((one) => one === "passed") && now.figure.name in cell.figures)
    .map((cell) => ({ id: cell.id, pair: cell.figures[now.figure.name] }))
    .filter((row) => row.pair.every((value) => value > 0))
    .map((row) => ({ ...row, ratio: row.pair[1] / row.pair[0] }))
    .sort((a, b) => Math.abs(Math.log(b.ratio)) - Math.abs(Math.log(a.ratio)));
  if (!rows.length) {
    return section(now.figure.label, h("p", { class: "quiet" }, "No cell that passed in both has this figure."));
  }
  const most = Math.max(Math.log(LEAST_RATIO), Math.abs(Math.log(rows[0].ratio)));
  const head = [column("cell"), ["before", "after", "ratio"].map((name) => column(name, "number")), h("td", {})];
  return section(`${now.figure.label}, after over before`,
    h("p", {}, `Median ${fixed(median(rows.map((row) => row.ratio)), 2)} of ${plural(rows.length, "cell")} that passed in both.`),
    table("plain ratios", head, rows.slice(0, MOST_ROWS).map((row) => h("tr", {},
      h("th", { scope: "row", class: "id" }, named(pair, row.id)),
      row.pair.map((value) => h("td", { class: "number" }, withUnit(now.figure, value))),
      h("td", { class: "number" }, fixed(row.ratio, 2)), h("td", {}, ratioBar(Math.log(row.ratio) / most))))));
}

function median(values) {
  const order = [...values].sort((a, b) => a - b);
  const middle = order.length >> 1;
  return order.length % 2 ? order[middle] : (order[middle - 1] + order[middle]) / 2;
}
