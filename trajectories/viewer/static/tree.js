// A tree search, drawn: who came from whom, what became of it, and which is best.

import { h, plural, replace, s, seconds } from "./dom.js";
import { metrics } from "./charts.js";
import { getOnce } from "./source.js";
import { ansi, block, difference, python } from "./text.js";

const [ACROSS, DOWN] = [74, 104];
const [RADIUS, LABEL] = [17, 46]; // edges begin below what is written under a node

function layout(nodes) {
  const known = new Map(nodes.map((node) => [node.id, { node, children: [], depth: 0, x: 0 }]));
  const roots = [];
  for (const place of known.values()) {
    const parent = known.get(place.node.parent);
    if (parent && parent !== place) parent.children.push(place);
    else roots.push(place);
  }
  let next = 0;
  const seen = new Set();
  const walk = (start) => { // without recursion: a search may be deep
    const stack = [[start, 0, false]];
    while (stack.length) {
      const [place, depth, done] = stack.pop();
      if (done) {
        const xs = place.children.map((child) => child.x);
        place.x = xs.length ? (Math.min(...xs) + Math.max(...xs)) / 2 : next++;
        continue;
      }
      if (seen.has(place)) continue;
      seen.add(place);
      place.depth = depth;
      stack.push([place, depth, true]);
      for (const child of [...place.children].reverse()) stack.push([child, depth + 1, false]);
    }
  };
  roots.forEach(walk);
  known.forEach((place) => seen.has(place) || walk(place)); // those that come from one another
  return [...known.values()].filter((place) => seen.has(place));
}

/** Nodes on the way to the best one. */
function bestPath(nodes) {
  const known = new Map(nodes.map((node) => [node.id, node]));
  let node = nodes.filter((each) => each.best).at(-1);
  const path = new Set();
  while (node && !path.has(node.id)) {
    path.add(node.id);
    node = known.get(node.parent);
  }
  return path;
}

/** The tree in `box`, and how to `move` in it. `goTo(step)`; `pick(id)` is told what is picked by hand. */
export function treeView(overview, episode, { picked: wanted, goTo, pick: told }) {
  const nodes = overview.nodes;
  const details = h("aside", { class: "node-details" }, h("p", { class: "soft" }, "Click a node for its plan, code and output."));
  let picked = null;
  const show = async (id) => {
    picked = id;
    for (const mark of drawing.querySelectorAll(".node")) mark.classList.toggle("picked", mark.dataset.id === String(id));
    replace(details, h("p", { class: "soft" }, "…"));
    try {
      const node = await getOnce("node", { e: episode, id: String(id) });
      if (picked !== id) return;
      replace(details, nodeDetails(node, episode, goTo));
      drawing.querySelector(".picked")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    } catch (error) {
      replace(details, h("p", { class: "bad" }, error.message));
    }
  };
  const pick = (id) => {
    told(id);
    show(id);
  };
  const move = (by) => {
    const index = nodes.findIndex((node) => node.id === picked);
    pick(nodes[Math.max(0, Math.min(nodes.length - 1, index + by))].id);
  };
  const drawing = draw(nodes, pick);
  const first = nodes.find((node) => String(node.id) === String(wanted)) ?? nodes.filter((node) => node.best).at(-1);
  if (first) show(first.id);
  const chart = metrics(nodes, pick);
  const box = h("div", { class: "tree-view" },
    h("div", { class: "tree-side" },
      h("div", { class: "legend" },
        ["draft", "improve", "debug", "crossover"].filter((stage) => nodes.some((node) => node.stage === stage)).map((stage) => h("span", {}, h("i", { class: `stage ${stage}` }), stage)),
        h("span", {}, h("i", { class: "stage buggy" }), "failed"), h("span", {}, h("i", { class: "stage best" }), "way to the best")),
      h("div", { class: "panel tree-scroll" }, drawing),
      chart ? h("div", { class: "panel" }, chart) : null),
    details);
  return { box, move };
}

function draw(nodes, pick) {
  const places = layout(nodes);
  const path = bestPath(nodes);
  const [best] = path;
  const wide = (Math.max(0, ...places.map((place) => place.x)) + 1) * ACROSS + 20;
  const tall = (Math.max(0, ...places.map((place) => place.depth)) + 1) * DOWN - 30;
  const [x, y] = [(place) => place.x * ACROSS + 46, (place) => place.depth * DOWN + 34];
  const values = nodes.map((node) => node.metric).filter((value) => typeof value === "number" && Number.isFinite(value));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const lower = nodes.some((node) => node.lower_is_better === true);
  const good = (value) => (high === low ? 1 : lower ? (high - value) / (high - low) : (value - low) / (high - low));
  return s("svg", { width: wide, height: tall, viewBox: `0 0 ${wide} ${tall}`, role: "group", "aria-label": `tree of ${plural(nodes.length, "node")}` },
    places.flatMap((place) => place.children.map((child) => s("path", {
      class: path.has(child.node.id) && path.has(place.node.id) ? "edge best" : "edge",
      d: `M${x(place)},${y(place) + LABEL} C${x(place)},${y(child) - RADIUS - 8} ${x(child)},${y(place) + LABEL + 8} ${x(child)},${y(child) - RADIUS - 5}` }))),
    places.map((place) => {
      const { node } = place;
      const number = typeof node.metric === "number" && Number.isFinite(node.metric);
      return s("g", { class: `node ${node.stage}${node.is_buggy ? " buggy" : ""}${path.has(node.id) ? " on-path" : ""}`, "data-id": node.id, tabindex: 0,
        role: "button", "aria-label": `node ${node.id}, ${node.stage}`, transform: `translate(${x(place)},${y(place)})`, onclick: () => pick(node.id),
        onkeydown: (event) => event.key === "Enter" && pick(node.id) },
      s("circle", { class: "halo", r: RADIUS + 9 }),
      path.has(node.id) ? s("circle", { class: "ring", r: RADIUS + 4 }) : null,
      s("circle", { class: "body", r: RADIUS, "fill-opacity": number && !node.is_buggy ? 0.12 + 0.4 * good(node.metric) : 0.12 }),
      node.id === best ? s("text", { class: "star", x: 15, y: -14 }, "★") : null,
      s("text", { class: "id", "text-anchor": "middle", y: 4 }, node.id),
      s("text", { class: "metric", "text-anchor": "middle", y: 39 }, number ? Number(node.metric.toPrecision(4)) : node.is_buggy ? "failed" : ""),
      s("title", {}, `${node.stage} ${node.id}: ${node.is_buggy ? "failed" : node.metric}`));
    }));
}

function nodeDetails(node, episode, goTo) {
  const where = { e: episode };
  const facts = [node.stage, node.is_buggy ? "failed" : `metric ${node.metric}`, node.exec_time_s === null || node.exec_time_s === undefined ? null : `ran ${seconds(node.exec_time_s)}`];
  return [
    h("h2", {}, `Node ${node.id}`, node.best ? h("span", { class: "pill good" }, "best when it was made") : null),
    h("p", { class: "soft" }, facts.filter(Boolean).join(" · "), node.parent === null || node.parent === undefined ? "" : ` · from node ${node.parent}`),
    node.steps.length ? h("p", {}, node.steps.map((number) => h("button", { class: "link", onclick: () => goTo(number) }, `step ${number}`))) : null,
    node.plan ? [h("h3", {}, "Plan"), block(node.plan, { kind: "prose", where })] : null,
    node.analysis ? [h("h3", {}, "Analysis"), block(node.analysis, { kind: "prose", where })] : null,
    node.diff ? [h("h3", {}, `Changes to node ${node.parent}`), typeof node.diff === "string" ? difference(node.diff) : block(node.diff, { where })] : null,
    node.code ? [h("h3", {}, "Code"), block(node.code, { render: python, where })] : null,
    node.output ? [h("h3", {}, "Output"), block(node.output, { render: ansi, kind: "output", where })] : null,
  ];
}
