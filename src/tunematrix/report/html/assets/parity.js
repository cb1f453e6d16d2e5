// Values that all engines have to agree on, one column for each run; digits that differ stand out.

const SHOWN_DIGITS = 7;

function parityView() {
  if (!PAGE.parity.length) {
    return [h("h1", { class: "unseen" }, "Parity"), h("p", { class: "note" }, "No cell of the recipe parity has run.")];
  }
  const columns = PAGE.runs.map((_, one) => one).filter((one) => PAGE.parity.some((row) => row.values[one] !== null));
  return [
    h("h1", { class: "unseen" }, "Parity"),
    h("p", { class: "legend" }, "Gradient norms and losses of the recipe parity, which every engine and machine has to ",
      "compute alike. Digits that differ are set bold."),
    [...parted(PAGE.parity, (row) => row.group)].map(([group, rows]) => parityTable(group, rows, columns)),
  ];
}

function parityTable(group, rows, columns) {
  const most = Math.max(...rows.map((row) => row.spread ?? 0));
  const place = (run) => [run.environment, h("br"), h("span", { class: "quiet" }, run.hardware)];
  const head = [column("value"), columns.map((one) => column(place(PAGE.runs[one]), "number")), column("difference", "number")];
  return h("section", {},
    h("h2", {}, group || "all", h("span", { class: "on" }, most ? ` largest difference ${short(most)}` : "")),
    table("plain parity", head, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.name),
      digits(columns.map((one) => row.values[one])).map((cell) => h("td", { class: "number" }, cell)),
      h("td", { class: "number" }, spread(row.spread))))));
}

function spread(share) {
  if (share === null) return ABSENT;
  return share === 0 ? "0" : share.toExponential(1).replace("e+", "e");
}

/** Values as texts, what they have in common apart from what they don't. */
function digits(values) {
  const texts = values.map((one) => one === null ? null : one.toPrecision(SHOWN_DIGITS));
  const known = texts.filter((one) => one !== null);
  let same = 0;
  while (known.length && same < known[0].length && known.every((one) => one[same] === known[0][same])) same += 1;
  return texts.map((one) => one === null ? ABSENT : [one.slice(0, same), one.length > same && h("b", {}, one.slice(same))]);
}
