// Drawings made of numbers.

import { s, score, seconds, usd } from "./dom.js";

const WIDTH = 560;
const round = (value) => Math.round(value * 10) / 10;
const known = (value) => typeof value === "number" && Number.isFinite(value);

/** Agents' scores with their intervals. */
export function scores(agents) {
  const rows = agents.filter((row) => known(row.metrics.score));
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
      const value = row.metrics.score;
      const [low, high] = row.score_interval ?? [];
      return s("g", {},
        s("text", { class: "label", x: left - 10, y: y + 4, "text-anchor": "end" }, row.agent.length > 22 ? `${row.agent.slice(0, 21)}…` : row.agent),
        known(low) && known(high) ? s("line", { class: "range", x1: x(low), x2: x(high), y1: y, y2: y }) : null,
        s("circle", { class: "dot", cx: x(value), cy: y, r: 5 }, s("title", {}, `${row.agent}: ${score(value)}`)),
        s("text", { x: Math.min(x(value) + 10, WIDTH - 36), y: y - 8 }, score(value)));
    }));
}

/** What each agent costs beside what it scores. */
export function costs(agents) {
  const rows = agents.filter((row) => known(row.metrics.score) && known(row.cost_usd));
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
      s("circle", { class: "dot", cx: x(row.cost_usd), cy: y(row.metrics.score), r: 5 }, s("title", {}, `${row.agent}: ${score(row.metrics.score)} for ${usd(row.cost_usd)}`)),
      s("text", { class: "label", x: x(row.cost_usd) + 9, y: y(row.metrics.score) + 4 }, row.agent))));
}

/** The metric of a search's nodes over time, and the best so far. */
export function metrics(nodes, pick) {
  const measured = nodes.filter((node) => known(node.metric));
  if (measured.length < 2) return null;
  const lower = measured[0].lower_is_better === true;
  const values = measured.map((node) => node.metric);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const height = 200;
  const last = Math.max(...measured.map((node) => node.at)) || 1;
  const x = (at) => round(52 + (at / last) * (WIDTH - 70));
  const y = (value) => round(12 + (high === low ? 0.5 : (high - value) / (high - low)) * (height - 44));
  let best = null;
  const steps = [];
  for (const node of measured) {
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
    measured.map((node) => s("circle", { class: `dot${node.is_buggy ? " buggy" : ""}`, cx: x(node.at), cy: y(node.metric), r: 4.5, onclick: () => pick(node.id) },
      s("title", {}, `node ${node.id}: ${node.metric} after ${seconds(node.at)}`))),
    s("text", { x: WIDTH - 12, y: height - 8, "text-anchor": "end" }, seconds(last)),
    s("text", { x: 52, y: height - 8 }, lower ? "lower is better" : "higher is better"));
}
