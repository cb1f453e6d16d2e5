// One cell, or one relation, with all that is known of it.

function cellView(now) {
  const cell = BY_KEY.get(now.cell);
  if (!cell) {
    return [h("p", { class: "note" }, "This page has no such cell. ", h("a", { href: address({ cell: null }) }, "Back"))];
  }
  const run = PAGE.runs[cell.run];
  return [
    neighbours(cell, now),
    h("h1", { class: "cell" }, mark(cell.outcome), " ", h("span", { class: "id" }, cell.id)),
    h("p", { class: "about" }, [`${run.environment} on ${run.hardware}`, run.moment || run.id, cell.spec].join(" · ")),
    cell.reason && h("p", { class: "reason", "data-outcome": cell.outcome }, cell.reason),
    cell.link && h("p", { class: "link" }, outside(cell.link)),
    command(cell.again),
    cell.stderr && section("Last lines of stderr", h("pre", {}, cell.stderr)),
    armsOf(cell),
    cell.losses.length > 1 && section("Loss, nats per token",
      cell.losses.some(([, loss]) => loss !== null) && curveBox(cell),
      gaps(cell.losses).length > 0 && h("p", { class: "reason" }, `The loss was ${gapsInWords(cell.losses)}.`)),
    h("div", { class: "columns" }, figuresOf(cell), memoryOf(cell), timeOf(cell), axesOf(cell)),
    checksOf(cell),
    pastOf(cell, now),
    h("div", { class: "columns" },
      h("details", { class: "facts-of" }, h("summary", {}, "Versions"), facts(run.versions)),
      h("details", { class: "facts-of" }, h("summary", {}, "Machine"), facts(run.machine))),
  ];
}

/** The way back to the list, and to the cells before and after in it. */
function neighbours(cell, now) {
  const list = sorted(through(cell.arms.length ? RELATIONS : CELLS, now), now);
  const here = list.indexOf(cell);
  const [before, after] = [here > 0 && list[here - 1], here >= 0 && list[here + 1]];
  return h("nav", { class: "neighbours", "aria-label": "Cells" },
    h("a", { href: address({ cell: null }), class: "back" }, "← Back"),
    h("span", { class: "quiet" }, here >= 0 ? `${here + 1} of ${list.length}` : ""),
    before && h("a", { href: cellAddress(before), class: "before", rel: "prev" }, "Previous"),
    after && h("a", { href: cellAddress(after), class: "after", rel: "next" }, "Next"));
}

/** The command that repeats it, with a button that copies it. */
function command(text) {
  const copy = async (event) => {
    const button = event.currentTarget;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.previousSibling);
      button.textContent = "Selected";
    }
  };
  return h("p", { class: "command" }, h("code", {}, text), h("button", { type: "button", onclick: copy }, "Copy"));
}

function figuresOf(cell) {
  const known = PAGE.figures.filter((one) => one.name in cell.figures);
  if (!known.length) return null;
  return section("Figures", table("plain", null, known.map((one) => {
    const band = cell.bands[one.name];
    const value = cell.figures[one.name];
    const ends = band && `expected ${bare(one, band[0])} to ${bare(one, band[1])}`;
    const off = band && (value < band[0] || value > band[1]);
    return h("tr", {}, h("th", { scope: "row" }, one.label), h("td", { class: "number" }, withUnit(one, value)),
      band && h("td", {}, scaleOf({ value, low: null, high: null, target: null }, off, band), h("span", { class: "quiet" }, ` ${ends}`)));
  })));
}

const axesOf = (cell) => section("Options", facts({ ...cell.axes, ...cell.settings }));

/** What a relation compares, or which relations compare a cell. */
function armsOf(cell) {
  if (cell.arms.length) return section("Arms", armLinks(cell));
  const mine = RELATIONS.filter((one) => one.run === cell.run && one.arms.includes(cell.id));
  return mine.length > 0 && section("Compared by", h("ul", { class: "arms" }, mine.map(cellItem)));
}

const armLinks = (relation) => h("ul", { class: "arms" }, relation.arms.map((id) => {
  const arm = inRun(relation.run, id);
  return arm ? cellItem(arm) : h("li", { class: "quiet" }, id);
}));

const cellItem = (cell) => h("li", {}, mark(cell.outcome, false), " ", h("a", { href: cellAddress(cell) }, cell.id));

const CHECK_OUTCOME = { failed: "failed", warned: "known_failure", passed: "passed" };
const CHECK_RANK = { failed: 0, warned: 1, passed: 2 };

/** Each check against its bound: what failed first, then what came nearest to failing. */
function checksOf(cell) {
  if (!cell.checks.length) return null;
  const slack = (check) => check.slack ?? Infinity;
  const order = [...cell.checks].sort((a, b) =>
    CHECK_RANK[a.outcome] - CHECK_RANK[b.outcome] || slack(a) - slack(b));
  const row = (check) => h("tr", { class: check.outcome },
    h("td", { class: "outcome" }, checkMark(check)),
    h("th", { scope: "row" }, check.name, check.message && h("p", { class: "reason" }, check.message)),
    h("td", { class: "number" }, check.measured, h("span", { class: "unit" }, check.unit && ` ${check.unit}`)),
    h("td", { class: "drawn" }, check.scale && scaleOf(check.scale, check.outcome === "failed")),
    h("td", { class: "bound" }, check.bound || ABSENT, check.note && h("span", { class: "quiet" }, `, ${check.note}`)),
    left(check));
  const names = ["", "check", "measured", "against its bound", "bound", "left"];
  const kinds = ["", "", "number", "drawn", "", "number"];
  const head = names.map((name, one) => column(name || h("span", { class: "unseen" }, "outcome"), kinds[one]));
  return section(`Checks: ${cell.checks.length}`, table("checks", head, order.map(row)));
}

/** What a check left of its bound; nothing of one that failed. */
const left = (check) => check && check.slack !== null && check.slack >= 0
  ? h("td", { class: "number", "data-label": "left" }, `${fixed(100 * check.slack, 0)}\u202f%`)
  : h("td", {});

function checkMark(check) {
  const symbol = check.outcome === "warned" ? "!" : OUTCOME.get(check.outcome).symbol;
  return h("span", { class: "mark", "data-outcome": CHECK_OUTCOME[check.outcome] },
    h("span", { class: "symbol", "aria-hidden": true }, symbol), h("span", { class: "unseen" }, check.outcome));
}

/** A figure that fills the place it gets; drawn again when that changes. */
const curveBox = (cell) => h("div", { class: "fill" }, lossCurve(cell, roomFor(720)));

const roomFor = (most) => Math.max(280, Math.min(most, document.getElementById("main").clientWidth - 32));

/** Memory by kind against what the spec or theory allows. */
function memoryOf(cell) {
  if (!cell.memory.length) return null;
  return section("Memory", table("plain", null, cell.memory.map((one) => {
    const { value, low, high } = one.scale;
    const failed = value !== null && ((low !== null && value < low) || (high !== null && value > high));
    return h("tr", {}, h("th", { scope: "row" }, one.kind),
      h("td", { class: "number" }, value === null ? ABSENT : `${short(value)}\u202f${one.unit}`),
      h("td", { class: "drawn" }, one.bound && scaleOf(one.scale, failed)),
      h("td", { class: "bound" }, one.bound || "no bound"));
  })));
}

function timeOf(cell) {
  const parts = Object.entries(cell.durations).filter(([, value]) => value > 0);
  if (!parts.length) return null;
  const whole = parts.reduce((sum, [, value]) => sum + value, 0);
  return section("Time by phase", h("div", { class: "fill" }, shares(parts, roomFor(280))),
    table("plain", null, parts.map(([name, value], one) => h("tr", {},
      h("td", {}, h("span", { class: `key s${one % 4}`, "aria-hidden": true })), h("th", { scope: "row" }, name),
      h("td", { class: "number" }, seconds(value)),
      h("td", { class: "number quiet" }, `${fixed(100 * value / whole, 0)}\u202f%`)))));
}

/** Earlier runs, as a drawing and as a table. */
function pastOf(cell, now) {
  if (!cell.past.length) return null;
  const figures = PAGE.figures.filter((one) => trail(cell).some((point) => one.name in point.figures));
  const shown = figures.includes(now.figure) || !figures.length ? now.figure : figures[0];
  const head = [column("run"), column("outcome"), figures.map((one) => column(labelled(one), "number"))];
  return section(`Earlier runs: ${cell.past.length}`,
    figures.length > 0 && h("p", {}, sparkline(cell, shown, roomFor(480), 56), h("span", { class: "quiet" }, ` ${shown.label}`)),
    table("plain", head, trail(cell).reverse().map((point) => h("tr", {},
      h("td", { class: "when" }, point.moment || point.run), h("td", {}, mark(point.outcome)),
      figures.map((one) => h("td", { class: "number" }, bare(one, point.figures[one.name])))))));
}
