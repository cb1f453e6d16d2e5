// Drawings. They take their colours from the page's style, so both themes and paper have theirs.

/** A place on a drawing; differences of the largest numbers there are have none. */
const place = (value) => (Number.isFinite(value) ? value : 0);

/** Where a figure lies on the axis of its bound: the allowed part, its ends, what was expected. */
function scaleOf(scale, failed, band) {
  const [width, height, edge] = [168, 16, 7];
  const [from, to] = domain(scale, band);
  const at = (value) => {
    const share = to > from ? (value - from) / (to - from) : 0.5;
    return edge + Math.min(1, Math.max(0, place(share))) * (width - 2 * edge);
  };
  const left = scale.low === null ? edge : at(scale.low);
  const right = scale.high === null ? width - edge : at(scale.high);
  const isBound = scale.low !== null || scale.high !== null;
  const tick = (value, name) =>
    draw("line", { class: name, x1: at(value), x2: at(value), y1: 2, y2: height - 2 });
  return draw("svg", { class: "scale", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": true },
    draw("line", { class: "axis", x1: edge, x2: width - edge, y1: height / 2, y2: height / 2 }),
    isBound && draw("rect", { class: "allowed", x: left, y: 4, width: Math.max(2, right - left), height: height - 8 }),
    band && draw("rect", { class: "band", x: at(band[0]), y: 5.5, width: Math.max(2, at(band[1]) - at(band[0])), height: height - 11 }),
    scale.low !== null && tick(scale.low, "end"),
    scale.high !== null && tick(scale.high, "end"),
    scale.target !== null && tick(scale.target, "target"),
    scale.value !== null && needle(scale.value, from, to, at, height / 2, failed));
}

/** The figure itself: a point; a lozenge if it failed; an arrow where it lies off the drawing. */
function needle(value, from, to, at, y, failed) {
  const x = at(value);
  const name = failed ? "needle bad" : "needle";
  if (value > to) return draw("path", { class: name, d: `M${x - 4} ${y - 5}l8 5l-8 5z` });
  if (value < from) return draw("path", { class: name, d: `M${x + 4} ${y - 5}l-8 5l8 5z` });
  if (failed) return draw("path", { class: name, d: `M${x} ${y - 6}l6 6l-6 6l-6 -6z` });
  return draw("circle", { class: name, cx: x, cy: y, r: 4 });
}

/** The part of the axis that is drawn: the allowed part, and some room around it. */
function domain({ value, low, high }, band) {
  if (low !== null && high !== null) {
    const room = 0.4 * (high - low || Math.abs(high) || 1);
    return [low === 0 && (value ?? 0) >= 0 ? 0 : low - room, high + room];
  }
  const known = [value, low, high, ...(band ?? [])].filter((one) => one !== null);
  if (high !== null) {
    const start = Math.min(0, ...known);
    return [start, high + 0.4 * (high - start || 1)];
  }
  return [Math.min(0, ...known), 1.15 * Math.max(...known, 0) || 1];
}

/** A cell's figure over its earlier runs, the present one last; a cross failed, a ring didn't pass. */
function sparkline(cell, figure, width = 92, height = 20) {
  const points = trail(cell);
  const values = points.map((one) => one.figures[figure.name]);
  const known = values.filter((one) => one !== undefined);
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const x = (run) => 4 + run * (width - 8) / Math.max(1, points.length - 1);
  const y = (value) => most > least ? height - 4 - place((value - least) / (most - least)) * (height - 8) : height / 2;
  const lines = stretches(values.map((one, run) => (one === undefined ? null : [x(run), y(one)])));
  const dots = points.map((one, run) => {
    const [cx, cy] = [x(run), values[run] === undefined ? height / 2 : y(values[run])];
    const isBad = one.outcome === "failed" || one.outcome === "error";
    const at = { class: "dot", "data-outcome": one.outcome };
    if (isBad) return draw("path", { ...at, d: `M${cx - 3} ${cy - 3}l6 6m0 -6l-6 6` });
    if (one.outcome !== "passed") return draw("circle", { ...at, cx, cy, r: 2.5 });
    return run === points.length - 1 && draw("circle", { class: "dot last", cx, cy, r: 2.5 });
  });
  const words = `${figure.label} in ${plural(points.length, "run")}: ` +
    values.map((one) => bare(figure, one)).join(", ");
  return draw("svg", { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
    draw("title", {}, words),
    lines.map((line) => line.length > 1 && draw("polyline", { points: line.join(" ") })), dots);
}

/** Points parted where one is missing: no line leads over a gap. */
function stretches(points) {
  const found = [[]];
  for (const point of points) {
    if (point) found.at(-1).push(point);
    else if (found.at(-1).length) found.push([]);
  }
  return found.filter((line) => line.length);
}

/** The steps at which a loss is no number, as [first, last] of each gap. */
function gaps(losses) {
  const found = [];
  losses.forEach(([step, loss], one) => {
    if (loss !== null) return;
    if (one > 0 && losses[one - 1][1] === null) found.at(-1)[1] = step;
    else found.push([step, step]);
  });
  return found;
}

/** The same in words; empty where there is none. */
function gapsInWords(losses) {
  const each = gaps(losses).map(([from, to]) => (from === to ? `${from}` : `${from} to ${to}`));
  return each.length ? `no number at step ${each.slice(0, 5).join(", ")}${each.length > 5 ? `, and ${each.length - 5} gaps more` : ""}` : "";
}

/** A cell's earlier runs and its present one. */
const trail = (cell) => [...cell.past, { ...cell, moment: PAGE.runs[cell.run].moment }];

/** Round numbers between two others. */
function ticks(from, to, about) {
  const raw = (to - from) / about || 1;
  if (!Number.isFinite(raw)) return [];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let one = Math.ceil(from / step) * step; one <= to + step / 1e6 && found.length < 20; one += step) found.push(Number(one.toPrecision(12)));
  return found;
}

/** The losses of training by step, with lines across for what they are to be seen against. */
function lossCurve(cell, width) {
  const height = 240;
  const pad = { left: 44, right: 96, top: 12, bottom: 34 };
  const band = cell.bands.logged_loss ?? cell.bands.heldout_loss;
  const across = [["entropy floor", cell.floor, "floor"], ["held out, after", cell.figures.heldout_loss, "held"]]
    .filter(([, value]) => value !== null && value !== undefined);
  const known = cell.losses.filter(([, loss]) => loss !== null);
  const all = [...known.map(([, loss]) => loss), ...across.map(([, value]) => value), ...(band ?? [])];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const room = 0.06 * (high - low || 1);
  const [first, last] = [cell.losses[0][0], cell.losses.at(-1)[0]];
  const x = (step) => pad.left + (step - first) / (last - first || 1) * (width - pad.left - pad.right);
  const y = (loss) => height - pad.bottom - place((loss - low + room) / (high - low + 2 * room)) * (height - pad.top - pad.bottom);
  const right = width - pad.right;
  const words = [`Loss from ${short(known[0][1])} at step ${known[0][0]} to ${short(known.at(-1)[1])} at step ${known.at(-1)[0]}`,
    gapsInWords(cell.losses)].filter(Boolean).join("; ");
  const half = (x(last) - x(first)) / Math.max(1, cell.losses.length - 1) / 2;
  const lines = stretches(cell.losses.map(([step, loss]) => (loss === null ? null : [x(step), y(loss)])));
  return draw("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
    ticks(low, high, 5).map((one) => [
      draw("line", { class: "grid", x1: pad.left, x2: right, y1: y(one), y2: y(one) }),
      draw("text", { x: pad.left - 8, y: y(one) + 4, "text-anchor": "end" }, short(one))]),
    ticks(first, last, Math.min(6, last - first)).map((one) =>
      draw("text", { x: x(one), y: height - pad.bottom + 17, "text-anchor": "middle" }, short(one))),
    draw("text", { class: "label", x: right, y: height - 3, "text-anchor": "end" }, "step"),
    band && draw("rect", { class: "band", x: pad.left, width: right - pad.left, y: y(band[1]), height: Math.max(1, y(band[0]) - y(band[1])) }),
    apart(across.map(([, value]) => y(value))).map((at, one) => [
      draw("line", { class: `across ${across[one][2]}`, x1: pad.left, x2: right, y1: y(across[one][1]), y2: y(across[one][1]) }),
      draw("text", { class: "label", x: right + 6, y: at + 4 }, across[one][0])]),
    gaps(cell.losses).map(([from, to]) => draw("rect", { class: "gap", x: x(from) - half, y: pad.top,
      width: Math.max(3, x(to) - x(from) + 2 * half), height: height - pad.top - pad.bottom },
      draw("title", {}, gapsInWords([[from, null], [to, null]])))),
    lines.map((line) => line.length > 1
      ? draw("polyline", { class: "curve", points: line.join(" ") })
      : draw("circle", { class: "lone", cx: line[0][0], cy: line[0][1], r: 2.5 })));
}

/** Move labels apart that would lie on each other. */
function apart(places) {
  const order = places.map((_, one) => one).sort((a, b) => places[a] - places[b]);
  const moved = [...places];
  order.slice(1).forEach((one, before) => { moved[one] = Math.max(moved[one], moved[order[before]] + 14); });
  return moved;
}

/** Shares of a whole, one beside the other. */
function shares(parts, width) {
  const whole = parts.reduce((sum, [, value]) => sum + value, 0) || 1;
  let x = 0;
  return draw("svg", { class: "shares", width, height: 14, viewBox: `0 0 ${width} 14`, "aria-hidden": true },
    parts.map(([name, value], one) => {
      const size = value / whole * width;
      const part = draw("rect", { class: `share s${one % 4}`, x, y: 0, width: Math.max(0, size - 1), height: 14 },
        draw("title", {}, `${name}: ${seconds(value)}`));
      x += size;
      return part;
    }));
}

/** A bar to the left or the right of the middle, from -1 to 1 of its half. */
function ratioBar(share) {
  const [width, height] = [120, 12];
  const reach = share * (width / 2 - 2);
  return draw("svg", { class: "ratio", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": true },
    draw("rect", { class: "bar", x: width / 2 + Math.min(0, reach), y: 2, width: Math.abs(reach), height: height - 4 }),
    draw("line", { class: "end", x1: width / 2, x2: width / 2, y1: 0, y2: height }));
}
