// Drawings made of numbers.

import { h, s, score, seconds, usd } from "./dom.js";

const WIDTH = 560;
const round = (value) => Math.round(value * 10) / 10;

/** Agents' scores with their intervals. */
export function scores(agents) {
  const rows = agents.filter((row) => row.score);
  if (!rows.length) return null;
  const left = 150;
  const x = (value) => round(left + Math.max(0, Math.min(1, value)) * (WIDTH - left - 60));
  const height = rows.length * 34 + 24;
  return s("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": "scores by agent" },
    [0, 0.25, 0.5, 0.75, 1].map((tick) => [
      s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: 4, y2: height - 20 }),
      s("text", { x: x(tick), y: height - 6, "text-anchor": "middle" }, tick)]),
    rows.map((row, i) => {
      const y = i * 34 + 20;
      const { value, low, high } = row.score;
      return s("g", {},
        s("text", { class: "label", x: left - 10, y: y + 4, "text-anchor": "end" }, row.agent.length > 22 ? `${row.agent.slice(0, 21)}…` : row.agent),
        low !== null && low !== undefined ? s("line", { class: "range", x1: x(low), x2: x(high), y1: y, y2: y }) : null,
        s("circle", { class: "dot", cx: x(value), cy: y, r: 5 }, s("title", {}, `${row.agent}: ${score(value)}`)),
        s("text", { x: Math.min(x(value) + 10, WIDTH - 36), y: y - 8 }, score(value)));
    }));
}

/** What each agent costs beside what it scores. */
export function costs(agents) {
  const rows = agents.filter((row) => row.score && row.cost_usd !== null && row.cost_usd !== undefined);
  if (rows.length < 2 || rows.every((row) => row.cost_usd === 0)) return null;
  const most = Math.max(...rows.map((row) => row.cost_usd)) * 1.1;
  const height = 230;
  const x = (value) => round(44 + (value / most) * (WIDTH - 120));
  const y = (value) => round(12 + (1 - Math.max(0, Math.min(1, value))) * (height - 50));
  return s("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": "cost and score by agent" },
    [0, 0.5, 1].map((tick) => [
      s("line", { class: "grid", x1: 40, x2: WIDTH - 60, y1: y(tick), y2: y(tick) }),
      s("text", { x: 34, y: y(tick) + 4, "text-anchor": "end" }, tick)]),
    [0, most / 2.2, most / 1.1].map((tick) => s("text", { x: x(tick), y: height - 10, "text-anchor": "middle" }, usd(tick))),
    rows.map((row) => s("g", {},
      s("circle", { class: "dot", cx: x(row.cost_usd), cy: y(row.score.value), r: 5 }, s("title", {}, `${row.agent}: ${score(row.score.value)} for ${usd(row.cost_usd)}`)),
      s("text", { class: "label", x: x(row.cost_usd) + 9, y: y(row.score.value) + 4 }, row.agent))));
}

/** The metric of a search's nodes over time, and the best so far. */
export function metrics(nodes, pick) {
  const known = nodes.filter((node) => typeof node.metric === "number" && Number.isFinite(node.metric));
  if (known.length < 2) return null;
  const lower = known[0].lower_is_better === true;
  const values = known.map((node) => node.metric);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const height = 200;
  const last = Math.max(...known.map((node) => node.at)) || 1;
  const x = (at) => round(52 + (at / last) * (WIDTH - 70));
  const y = (value) => round(12 + (high === low ? 0.5 : (high - value) / (high - low)) * (height - 44));
  let best = null;
  const steps = [];
  for (const node of known) {
    if (best === null || (lower ? node.metric < best : node.metric > best)) {
      if (best !== null) steps.push(`${x(node.at)},${y(best)}`);
      best = node.metric;
      steps.push(`${x(node.at)},${y(best)}`);
    }
  }
  steps.push(`${x(last)},${y(best)}`);
  return s("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": "metric over time" },
    [low, (low + high) / 2, high].map((tick) => [
      s("line", { class: "grid", x1: 48, x2: WIDTH - 10, y1: y(tick), y2: y(tick) }),
      s("text", { x: 44, y: y(tick) + 4, "text-anchor": "end" }, Number(tick.toPrecision(3)))]),
    s("polyline", { class: "best", points: steps.join(" ") }),
    known.map((node) => s("circle", { class: `dot${node.is_buggy ? " buggy" : ""}`, cx: x(node.at), cy: y(node.metric), r: 4.5, onclick: () => pick(node.id) },
      s("title", {}, `node ${node.id}: ${node.metric} after ${seconds(node.at)}`))),
    s("text", { x: WIDTH - 12, y: height - 8, "text-anchor": "end" }, seconds(last)),
    s("text", { x: 52, y: height - 8 }, lower ? "lower is better" : "higher is better"));
}

/** Tokens and cost along the steps: one column for each, or for several where they are many. */
export function timeline(columns, go) {
  const canvas = h("canvas", { class: "timeline", role: "img", "aria-label": "tokens of each step", title: "tokens of each step; click to go there" });
  const total = columns.input.length;
  const draw = () => {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !total) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    const colours = getComputedStyle(canvas);
    const ink = (name) => colours.getPropertyValue(name).trim();
    pen.scale(ratio, ratio);
    const bins = Math.min(total, Math.floor(width / 3));
    const sums = Array.from({ length: bins }, () => ({ tokens: 0, errors: 0 }));
    for (let i = 0; i < total; i++) {
      const bin = sums[Math.floor((i * bins) / total)];
      bin.tokens = Math.max(bin.tokens, (columns.input[i] ?? 0) + (columns.output[i] ?? 0));
      bin.errors += columns.errors[i] ?? 0;
    }
    const most = Math.max(1, ...sums.map((bin) => bin.tokens));
    const step = width / bins;
    sums.forEach((bin, i) => {
      const tall = Math.max(2, (bin.tokens / most) * (height - 6));
      pen.fillStyle = bin.errors ? ink("--bad") : ink("--accent");
      pen.globalAlpha = bin.errors ? 0.9 : 0.65;
      pen.fillRect(i * step, height - tall, Math.max(1, step - (step > 4 ? 1.5 : 0.5)), tall);
    });
  };
  new ResizeObserver(draw).observe(canvas);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  canvas.addEventListener("redraw", draw);
  canvas.addEventListener("click", (event) => go(1 + Math.floor((event.offsetX / canvas.clientWidth) * total)));
  return canvas;
}
