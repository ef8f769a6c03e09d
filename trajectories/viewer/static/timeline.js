// Tokens and cost along the steps, and on which branch each was made.

import { count, h, seconds, usd } from "./dom.js";

const WIDEST = 26; // of a step's bar: few steps are no more than they are
const TOKENS = 40;
const COSTS = 20;
const STRIP = 4;

/** `go(number)` is called with the step that is clicked. `show(columns)` draws others, `at(number)` says where one is. */
export function timeline(go) {
  const canvas = h("canvas", { class: "timeline", role: "img", "aria-label": "tokens and cost of each step" });
  const told = h("div", { class: "told", "aria-hidden": "true" });
  const box = h("div", { class: "timeline-box" }, canvas, told);
  let columns = null;
  let current = null;
  let total = 0;

  /** One bar for each step; where they are many, for several, as high as the highest. */
  const bars = (width) => {
    const bins = Math.min(total, Math.max(1, Math.floor(width / 3)));
    const found = Array.from({ length: bins }, () => ({ input: 0, output: 0, cost: 0, errors: 0, branch: null }));
    for (let i = 0; i < total; i++) {
      const bar = found[Math.floor((i * bins) / total)];
      const [input, output] = [columns.input[i] ?? 0, columns.output[i] ?? 0];
      if (input + output >= bar.input + bar.output) [bar.input, bar.output] = [input, output];
      bar.cost = Math.max(bar.cost, columns.cost_usd[i] ?? 0);
      bar.errors += columns.errors[i];
      bar.branch ??= columns.branch[i];
    }
    return found;
  };

  const draw = () => {
    const priced = columns?.cost_usd.some((value) => value > 0);
    const height = TOKENS + (priced ? COSTS + 3 : 0) + STRIP + 2;
    canvas.style.height = `${height}px`;
    canvas.style.width = total ? `min(100%, ${total * WIDEST}px)` : "";
    const width = canvas.clientWidth;
    if (!width || !total) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    const colours = getComputedStyle(canvas);
    const ink = (name) => colours.getPropertyValue(name).trim();
    pen.scale(ratio, ratio);
    const rect = (name, x, y, w, tall, alpha = 1) => {
      pen.fillStyle = ink(name);
      pen.globalAlpha = alpha;
      pen.fillRect(x, y, w, tall);
    };
    const drawn = bars(width);
    const step = width / drawn.length;
    const thick = Math.max(1, step - (step > 6 ? 2 : step > 3.5 ? 1 : 0.5));
    const mostTokens = Math.max(1, ...drawn.map((bar) => bar.input + bar.output));
    const mostCost = Math.max(...drawn.map((bar) => bar.cost));
    const order = [...new Set(columns.branch)];
    const place = new Map(order.map((name, i) => [name, i]));
    drawn.forEach((bar, i) => {
      const x = i * step;
      const read = (bar.input / mostTokens) * (TOKENS - 2);
      const wrote = Math.max(2, (bar.output / mostTokens) * (TOKENS - 2));
      rect(bar.errors ? "--bad" : "--accent", x, TOKENS - read - wrote, thick, wrote, 0.95);
      rect("--accent", x, TOKENS - read, thick, read, 0.4);
      if (priced) rect("--gold", x, TOKENS + 3 + COSTS - Math.max(1, (bar.cost / mostCost) * COSTS), thick, Math.max(1, (bar.cost / mostCost) * COSTS), 0.9);
      if (order.length > 1) rect(["--draft", "--crossover"][place.get(bar.branch) % 2], x, height - STRIP, step, STRIP, 0.85);
    });
    if (current !== null) rect("--ink", Math.floor(((current - 1) / total) * drawn.length) * step - 1, 0, 2, height);
  };

  const said = (i) => {
    const tools = columns.tools[i].join(", ");
    return [`#${i + 1}  ${columns.branch[i]}`, columns.ended[i] === null ? "under way" : `${count(columns.input[i])} → ${count(columns.output[i])} tokens`,
      columns.ended[i] === null ? "" : usd(columns.cost_usd[i]), columns.ended[i] === null ? "" : seconds(columns.ended[i] - columns.began[i]), tools, columns.errors[i] ? "error" : ""].filter(Boolean).join(" · ");
  };
  const under = (event) => Math.max(0, Math.min(total - 1, Math.floor((event.offsetX / canvas.clientWidth) * total)));
  const legend = () => (told.textContent = !columns?.input.some((value, i) => value || columns.output[i]) ? "the log counts no tokens" : `tokens: sent (pale), written (strong)${columns?.cost_usd.some((value) => value > 0) ? " · below: cost" : ""}${new Set(columns?.branch).size > 1 ? " · strip: branches" : ""}${columns?.errors.some(Boolean) ? " · red: an error" : ""}`);
  canvas.addEventListener("mousemove", (event) => total && (told.textContent = said(under(event))));
  canvas.addEventListener("mouseleave", legend);
  canvas.addEventListener("click", (event) => total && go(1 + under(event)));
  canvas.addEventListener("redraw", draw);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", draw);
  const sized = new ResizeObserver(draw);
  sized.observe(box);
  return {
    box,
    show(found) {
      columns = found;
      total = found.branch.length;
      box.hidden = total < 2;
      legend();
      draw();
    },
    at(number) {
      current = number;
      draw();
    },
    leave() {
      sized.disconnect();
      scheme.removeEventListener("change", draw);
    },
  };
}
