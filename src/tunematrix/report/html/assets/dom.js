// Elements from texts. Nothing here or elsewhere takes HTML: whatever a record holds is a text.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: h("a", { class: "x", href: "#", onclick: f }, "text", child, …). */
const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** The same for drawings. */
const draw = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((one) => one !== null && one !== undefined && one !== false));
  return node;
}

/** A link to the outside, if the text is an address of the web; else the text alone. */
function outside(text) {
  if (!/^https?:\/\/[^\s]+$/i.test(text)) return h("span", {}, text);
  return h("a", { href: text, rel: "noreferrer noopener", target: "_blank" }, text);
}

const formats = new Map();

/** A number with so many digits behind the point, as people read it. */
function fixed(value, digits) {
  if (!formats.has(digits)) {
    const both = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    formats.set(digits, new Intl.NumberFormat("en", both));
  }
  return formats.get(digits).format(value);
}

/** A number with four significant digits. */
function short(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });
}

/** A figure of a cell without its unit; a dash where it wasn't measured. */
function bare(figure, value) {
  if (value === undefined || value === null) return "–";
  return figure.digits === null ? short(value * figure.scale) : fixed(value * figure.scale, figure.digits);
}

/** The same with its unit. */
function withUnit(figure, value) {
  const text = bare(figure, value);
  return text === "–" || !figure.unit ? text : `${text}\u202f${figure.unit}`;
}

/** What a figure is called, with its unit. */
const labelled = (figure) => (figure.unit ? `${figure.label}, ${figure.unit}` : figure.label);

/** Seconds as people read them. */
const seconds = (value) => `${value < 10 ? fixed(value, 2) : fixed(value, 1)}\u202fs`;

const plural = (count, word) => `${fixed(count, 0)} ${word}${count === 1 ? "" : "s"}`;

/** An outcome as symbol and, unless that is said elsewhere, in words. */
function mark(name, words = true) {
  const outcome = OUTCOME.get(name);
  const symbol = h("span", { class: "symbol", "aria-hidden": words }, outcome.symbol);
  const text = words ? ` ${outcome.words}` : h("span", { class: "unseen" }, outcome.words);
  return h("span", { class: "mark", "data-outcome": name }, symbol, text);
}

/** Outcomes with counts, worst first: ✗ 1 failed  ✓ 3 passed. */
function tally(cells, words = true) {
  const found = counted(cells);
  return OUTCOMES.filter((one) => found.has(one.name)).map((one) =>
    h("span", { class: "mark", "data-outcome": one.name, title: one.words },
      h("span", { class: "symbol" }, one.symbol),
      `${words ? "\u2009" : ""}${fixed(found.get(one.name), 0)}${words ? ` ${found.get(one.name) === 1 ? one.words : one.several}` : ""}`));
}

function counted(cells) {
  const found = new Map();
  for (const cell of cells) found.set(cell.outcome, (found.get(cell.outcome) ?? 0) + 1);
  return found;
}

/** Names and values, side by side. */
function facts(pairs) {
  const rows = Object.entries(pairs).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
  return rows.length ? h("dl", { class: "facts" }, rows) : h("p", { class: "quiet" }, "none recorded");
}

/** A name that may be of any length, as there is room for it; what bears it has the rest as title. */
const LONGEST_NAME = 28;
const brief = (name) => (name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name);

/** A table that scrolls in itself where it is too wide; `head` may be left out. */
const table = (kind, head, rows) => h("div", { class: "wide" }, h("table", { class: kind },
  head && h("thead", {}, h("tr", {}, head)), h("tbody", {}, head ? filled(head.flat(), rows) : rows)));

/** Rows without the columns that none of them fills, such as what old records don't have. */
function filled(head, rows) {
  const isEmpty = (cell) => !cell.querySelector("svg") && ["", "–"].includes(cell.textContent.trim());
  const columns = head.filter((one) => one);
  columns.forEach((title, place) => {
    const cells = rows.map((row) => row.cells[place]);
    if (title.hasAttribute("aria-sort") || !cells.every((cell) => cell && isEmpty(cell))) return;
    for (const one of [title, ...cells]) one.hidden = true;
  });
  return rows;
}

/** A heading of a column. */
const column = (name, kind) => h("th", { scope: "col", class: kind }, name);

/** A section with a heading. */
const section = (title, ...children) => h("section", {}, h("h2", {}, title), children);

/** Part things by what `key` says of each, in the order of first appearance. */
function parted(things, key) {
  const groups = new Map();
  for (const thing of things) {
    const name = key(thing);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(thing);
  }
  return groups;
}
