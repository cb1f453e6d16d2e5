// Relations: what comes nearest to its bound in each, and the arms that are compared.

function relationsView(now) {
  const found = sorted(through(RELATIONS, now), now);
  if (!found.length) return [h("h1", { class: "unseen" }, "Relations"), nothing()];
  return [
    h("h1", { class: "unseen" }, "Relations"),
    h("div", { class: "tools" }, h("p", { class: "counts" }, tally(found)),
      h("p", { class: "legend" }, "each with the check that is nearest to its bound")),
    table("relations", [
      heading("outcome", "", now), heading("cell", "relation", now),
      column("check"), column("measured", "number"), column("against its bound", "drawn"), column("bound"),
      heading("slack", "left", now, "number"),
    ], found.map(relationRow)),
  ];
}

function relationRow(relation) {
  const check = relation.nearest === null ? null : relation.checks[relation.nearest];
  return h("tr", {},
    h("td", { class: "outcome" }, mark(relation.outcome, false)),
    h("th", { scope: "row", class: "id" }, h("a", { href: cellAddress(relation) }, relation.id),
      relation.reason && h("p", { class: "reason" }, relation.reason),
      h("details", { class: "of-arms" }, h("summary", {}, plural(relation.arms.length, "arm")), armLinks(relation))),
    h("td", {}, check ? check.name : ""),
    h("td", { class: "number" }, check ? check.measured : ABSENT),
    h("td", { class: "drawn" }, check?.scale && scaleOf(check.scale, check.outcome === "failed")),
    h("td", { class: "bound" }, check ? check.bound : ""),
    left(check));
}
