// What is looked at: kept in the address behind the #, so that a view can be linked to and gone
// back to. `PAGE` is the payload; report/html/payload.py says what is in it.

let PAGE, OUTCOMES, OUTCOME, FIGURE, AXES, CELLS, RELATIONS, BY_KEY;

const OWN = ["environment", "hardware"];
const FORM = 3;
const ABSENT = "–";

/** Take in the payload; what every view needs is computed here, once. */
function take(page) {
  if (page.form !== FORM) throw new Error(`this page knows form ${FORM} of its data, not ${page.form}`);
  PAGE = page;
  OUTCOMES = page.outcomes;
  OUTCOME = new Map(OUTCOMES.map((one, rank) => [one.name, { ...one, rank }]));
  FIGURE = new Map(page.figures.map((one) => [one.name, one]));
  BY_KEY = new Map();
  page.cells.forEach((cell, position) => {
    const run = page.runs[cell.run];
    cell.position = position;
    cell.options = { ...cell.axes, environment: run.environment, hardware: run.hardware };
    cell.key = `${run.environment}/${run.id}/${cell.id}`;
    if (BY_KEY.has(cell.key)) cell.key += `/${run.hardware}`;  // another machine's run of that name
    cell.text = [cell.id, cell.spec, cell.reason, ...Object.values(cell.options)].join(" ").toLowerCase();
    BY_KEY.set(cell.key, cell);
  });
  CELLS = page.cells.filter((cell) => !cell.arms.length);
  RELATIONS = page.cells.filter((cell) => cell.arms.length);
  AXES = [...OWN, ...page.axes].map(choices).filter((axis) => axis.options.length > 1);
}

/** An axis with its options, in the order of first appearance. */
function choices(name) {
  return { name, options: [...new Set(PAGE.cells.map((cell) => cell.options[name] ?? ABSENT))] };
}

/** What the address says. */
function state() {
  const given = new URLSearchParams(location.hash.slice(1));
  const options = new Map();
  for (const [name, value] of given) if (name.startsWith("a.")) options.set(name.slice(2), value);
  return {
    view: given.get("view") ?? "matrix",
    cell: given.get("cell"),
    words: given.get("q") ?? "",
    outcomes: new Set((given.get("outcome") ?? "").split(",").filter((one) => OUTCOME.has(one))),
    options,
    sort: given.get("sort") ?? "",
    figure: FIGURE.get(given.get("figure")) ?? PAGE.figures[0],
    pair: Number(given.get("pair") ?? 0),
    all: given.has("all"),
  };
}

/** The address of the present view with some changes: { view: "cells", "a.method": null }. */
function address(changes) {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") given.delete(name);
    else given.set(name, value);
  }
  return `#${given}`;
}

/** Filters for these options, as far as there is a choice of them. */
const filters = (options) =>
  Object.fromEntries(AXES.filter((axis) => axis.name in options).map((axis) => [`a.${axis.name}`, options[axis.name]]));

/** The changes that take all filters away. */
function cleared() {
  const given = new URLSearchParams(location.hash.slice(1));
  const names = [...given.keys()].filter((name) => name.startsWith("a.") || ["q", "outcome", "all"].includes(name));
  return Object.fromEntries(names.map((name) => [name, null]));
}

const go = (changes) => { location.hash = address(changes); };

/** Where a cell is shown. */
const cellAddress = (cell) => address({ cell: cell.key });

/** Those of some cells that the filters let through. */
function through(cells, now) {
  const words = now.words.toLowerCase().split(/\s+/).filter(Boolean);
  return cells.filter((cell) =>
    (!now.outcomes.size || now.outcomes.has(cell.outcome)) &&
    [...now.options].every(([axis, option]) => (cell.options[axis] ?? ABSENT) === option) &&
    words.every((word) => cell.text.includes(word)));
}

/** Sort cells by what `now.sort` names: a column, or -column for the other way round. */
function sorted(cells, now) {
  if (!now.sort) return cells;
  const backwards = now.sort.startsWith("-");
  const name = now.sort.replace(/^-/, "");
  const value = sortKey(name);
  const order = (a, b) => {
    const [left, right] = [value(a), value(b)];
    // What wasn't measured stands last, whichever way round.
    if (left === undefined || right === undefined) return (left === undefined) - (right === undefined);
    const found = typeof left === "number" ? left - right : String(left).localeCompare(String(right));
    return (backwards ? -found : found) || a.position - b.position;
  };
  return [...cells].sort(order);
}

function sortKey(name) {
  if (name === "outcome") return (cell) => OUTCOME.get(cell.outcome).rank;
  if (name === "cell") return (cell) => cell.id;
  if (name === "slack") return (cell) => cell.checks[cell.nearest]?.slack ?? undefined;
  if (FIGURE.has(name)) return (cell) => cell.figures[name];
  return (cell) => cell.options[name];
}

/** Cells of the runs that hold them, by their ids: arms of a relation, relations of a cell. */
const inRun = (run, id) => BY_KEY.get(`${PAGE.runs[run].environment}/${PAGE.runs[run].id}/${id}`);
