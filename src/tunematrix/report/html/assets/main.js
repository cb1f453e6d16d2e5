// Puts the page together: its head, its filters, and the view that the address names.

const VIEWS = {
  matrix: ["Matrix", matrixView, () => ""],
  cells: ["Cells", cellsView, () => CELLS.length],
  relations: ["Relations", relationsView, () => RELATIONS.length],
  compare: ["Compare", compareView, () => ""],
  parity: ["Parity", parityView, () => ""],
};
const FILTERED = new Set(["matrix", "cells", "relations"]);
const byId = (id) => document.getElementById(id);

function head() {
  const tabs = Object.entries(VIEWS).map(([name, [label, , count]]) =>
    h("a", { "data-view": name, onclick: goTo(name), href: `#view=${name}` }, label, count() !== "" && h("span", { class: "count" }, ` ${fixed(count(), 0)}`)));
  byId("top").replaceChildren(
    h("div", { class: "bar" },
      h("p", { class: "name" }, h("a", { href: "#" }, "tunematrix")),
      h("p", { class: "counts total", "aria-label": "all cells" }, tally(CELLS)),
      interruptions(),
      h("button", { type: "button", class: "theme", onclick: otherTheme, title: "light or dark" }, "◐", h("span", { class: "unseen" }, "light or dark"))),
    h("nav", { class: "tabs", "aria-label": "Views" }, tabs),
    filterBar());
}

/** Beside the counts of every view: a run that wasn't finished is no green one. */
function interruptions() {
  const mine = PAGE.runs.filter((run) => run.interrupted);
  return mine.map((run) => h("p", { class: "interrupted" },
    PAGE.runs.length > 1 ? `${run.environment} ${run.interrupted}` : run.interrupted));
}

/** Another view keeps the filters. */
const goTo = (name) => (event) => {
  event.preventDefault();
  go({ view: name, cell: null });
};

function filterBar() {
  const chips = OUTCOMES.filter((one) => PAGE.cells.some((cell) => cell.outcome === one.name)).map((one) =>
    h("button", { type: "button", class: "chip", "data-outcome": one.name, "aria-pressed": "false", onclick: toggled(one.name) },
      h("span", { class: "symbol", "aria-hidden": true }, one.symbol), ` ${one.words}`));
  const selects = AXES.map((axis) =>
    h("label", { class: "field" }, h("span", {}, axis.name),
      h("select", { "data-axis": axis.name, onchange: (event) => go({ [`a.${axis.name}`]: event.target.value }) },
        h("option", { value: "" }, "all"), axis.options.map((one) => h("option", { value: one }, one)))));
  return h("search", { id: "filters" },
    h("div", { class: "chips" },
      h("input", { type: "search", id: "words", placeholder: "Find a cell, a reason …", "aria-label": "Find", oninput: typed }),
      h("div", { class: "chips", role: "group", "aria-label": "Outcomes" }, chips)),
    h("div", { class: "chips", id: "chosen" }),
    h("details", { id: "axes" }, h("summary", {}, "Filter by option"), h("div", { class: "axes" }, selects)));
}

const toggled = (name) => () => {
  const chosen = state().outcomes;
  if (!chosen.delete(name)) chosen.add(name);
  go({ outcome: [...chosen].join(",") });
};

/** What is typed takes effect at once, and is no step of its own to go back over. */
function typed(event) {
  history.replaceState(null, "", address({ q: event.target.value }) || "#");
  show();
}

/** Draw what the address names. */
function show() {
  const now = state();
  const view = VIEWS[now.view] ? now.view : "matrix";
  const main = byId("main");
  main.dataset.view = now.cell ? "cell" : view;
  main.replaceChildren(...[now.cell ? cellView(now) : VIEWS[view][1](now)].flat(3).filter(Boolean));
  document.title = now.cell ? `${BY_KEY.get(now.cell)?.id ?? "?"} · ${PAGE.title}` : PAGE.title;
  byId("filters").hidden = Boolean(now.cell) || !FILTERED.has(view);
  for (const tab of document.querySelectorAll(".tabs a")) {
    if (tab.dataset.view === view) tab.setAttribute("aria-current", now.cell ? "true" : "page");
    else tab.removeAttribute("aria-current");
  }
  syncFilters(now);
}

/** Let the controls say what the address says. */
function syncFilters(now) {
  for (const chip of document.querySelectorAll(".chip")) {
    chip.setAttribute("aria-pressed", String(now.outcomes.has(chip.dataset.outcome)));
  }
  for (const select of document.querySelectorAll("#filters select")) {
    select.value = now.options.get(select.dataset.axis) ?? "";
    select.classList.toggle("set", select.value !== "");
  }
  if (document.activeElement !== byId("words")) byId("words").value = now.words;
  byId("chosen").replaceChildren(...chosenFilters(now));
}

/** Each option that is filtered by, with a button that takes it away. */
function chosenFilters(now) {
  const each = [...now.options].map(([axis, option]) =>
    h("button", { type: "button", class: "chosen", title: "take this filter away", onclick: () => go({ [`a.${axis}`]: null }) },
      h("span", { class: "quiet" }, `${axis} `), option, h("span", { class: "quiet", "aria-hidden": true }, " ×")));
  if (now.words || now.outcomes.size || now.options.size) {
    each.push(h("button", { type: "button", id: "clear", onclick: () => go(cleared()) }, "Clear"));
  }
  return each;
}

function otherTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const is = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  theme(is === "dark" ? "light" : "dark");
}

/** Set a theme, and remember it where the browser lets a file do so. */
function theme(name) {
  document.documentElement.dataset.theme = name;
  try { localStorage.setItem("tunematrix-theme", name); } catch { /* Not every browser does. */ }
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (state().cell) go({ cell: null });
  } else if (!typing && event.key === "/") {
    event.preventDefault();
    byId("words").focus();
  } else if (!typing && (event.key === "j" || event.key === "k")) {
    document.querySelector(event.key === "j" ? ".neighbours .after" : ".neighbours .before")?.click();
  }
}

function foot() {
  byId("foot").replaceChildren(
    ...(PAGE.left_out ? [h("p", {}, PAGE.left_out)] : []),
    h("p", {}, `Written ${PAGE.made}. `, h("kbd", {}, "/"), " finds, arrows go through the matrix, ", h("kbd", {}, "j"), " and ", h("kbd", {}, "k"), " through cells, ", h("kbd", {}, "Esc"), " goes back."));
}

async function unpacked() {
  const packed = Uint8Array.from(atob(byId("data").textContent), (one) => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

/** Draw again when the address changes; whoever comes back to a list finds it where it was. */
function followAddress() {
  let before = location.hash;
  const places = new Map();
  addEventListener("hashchange", () => {
    const now = state();
    const turns = new URLSearchParams(before.slice(1)).get("cell") !== now.cell;
    places.set(before, scrollY);
    before = location.hash;
    show();
    if (!turns) return;
    byId("main").focus({ preventScroll: true });
    scrollTo(0, now.cell ? 0 : places.get(location.hash) ?? 0);
  });
}

async function start() {
  try {
    const kept = localStorage.getItem("tunematrix-theme");
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch { /* As above. */ }
  take(await unpacked());
  byId("data").remove();
  head();
  foot();
  show();
  followAddress();
  addEventListener("keydown", keys);
  let wide = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== wide) { wide = innerWidth; show(); } });
  addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach((one) => { one.open = true; }));
  document.documentElement.dataset.ready = "";
}

start().catch((error) => {
  byId("main").replaceChildren(h("p", { class: "note" }, `This page can't be shown: ${error.message}. A browser of 2024 or later is needed.`));
  throw error;
});
