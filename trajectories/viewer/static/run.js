// A run: who did how well at what, and the list of all runs.

import { count, h, percent, replace, score, seconds, usd } from "./dom.js";
import { get } from "./source.js";
import { costs, scores } from "./charts.js";
import { block } from "./text.js";

const tokens = (usage) => Object.entries(usage ?? {}).reduce((sum, [name, value]) => sum + (name === "reasoning" ? 0 : value), 0);

const COLUMNS = [
  ["task", (e) => e.task, "text"],
  ["agent", (e) => e.agent, "text"],
  ["epoch", (e) => e.epoch, "number"],
  ["outcome", (e) => e.outcome ?? "", "pill"],
  ["score", (e) => e.score?.value ?? null, "number", score],
  ["steps", (e) => e.steps ?? null, "number", (v) => v ?? "–"],
  ["tokens", (e) => (e.usage ? tokens(e.usage) : null), "number", count],
  ["cost", (e) => (e.usage ? e.cost_usd : null), "number", usd],
  ["time", (e) => e.time_s ?? null, "number", seconds],
  ["flags", (e) => (e.score?.flags ?? []).join(", "), "text"],
];

const TABLE_KEYS = [["j / k", "next, previous row"], ["Enter", "open it"], ["g / G", "first, last row"], ["/", "filter"]];

export async function runView(root, run, open) {
  const found = await get("run", { run });
  const { episodes, summary } = found;
  const done = episodes.filter((e) => e.outcome !== null);
  const several = new Set(episodes.map((e) => e.benchmark)).size > 1;
  const all = table(run, several ? [["benchmark", (e) => e.benchmark, "text"], ...COLUMNS] : COLUMNS, episodes, (e) => open({ view: "episode", episode: e.episode, run }));
  replace(root, h("div", { class: "scroll page" },
    h("header", { class: "run-head" },
      h("h1", {}, found.name || found.run),
      h("span", { class: "soft" }, found.name ? found.run : ""),
      found.busy ? h("span", { class: "pill live" }, "at work") : null),
    h("div", { class: "cards" },
      card(done.length, done.length === 1 ? "episode" : "episodes"),
      done.length < episodes.length ? card(episodes.length - done.length, "under way") : null,
      summary.agents.length === 1 // of several it would say nothing of any
        ? [card(score(summary.metrics.score), "mean score"), card(percent(summary.metrics.success_rate), "success")] : null,
      card(usd(summary.cost_usd), "cost"),
      summary.outcomes.fault ? card(summary.outcomes.fault, "faults", "bad") : null),
    charts(summary.agents),
    matrices(episodes, open),
    h("h2", {}, "Episodes"),
    all.box,
    summary.comparisons.length ? [h("h2", {}, "Paired by task"), comparisons(summary.comparisons)] : null,
    found.experiment ? [h("h2", {}, "Experiment"), block(found.experiment, {})] : null));
  return { keys: all.keys, help: TABLE_KEYS, leave: () => {} };
}

export async function runsView(root, open) {
  const runs = await get("runs");
  const columns = [["run", (r) => r.run, "text"], ["benchmarks", (r) => [r.benchmarks].flat().join(", "), "text"], ["agents", (r) => [r.agents].flat().join(", "), "text"],
    ["done", (r) => r.done, "number", (v) => v], ["state", (r) => r.state, "text"]];
  const all = table("", columns, runs, (r) => open({ view: "run", run: r.run }));
  replace(root, h("div", { class: "scroll page" }, h("header", { class: "run-head" }, h("h1", {}, "Runs")),
    runs.length ? all.box : h("p", { class: "soft" }, "There are no runs here yet: trellis run makes one.")));
  return { keys: all.keys, help: TABLE_KEYS, leave: () => {} };
}

const card = (value, title, kind = "") => h("div", { class: `card ${kind}` }, h("b", {}, value), h("span", {}, title));

function charts(agents) {
  const benchmarks = [...new Set(agents.map((row) => row.benchmark))];
  const drawn = benchmarks.flatMap((benchmark) => {
    const rows = agents.filter((row) => row.benchmark === benchmark);
    const where = benchmarks.length > 1 ? `: ${benchmark}` : "";
    return [[`Score, with 95 % intervals${where}`, scores(rows)], [`Cost and score${where}`, costs(rows)]];
  }).filter(([, drawing]) => drawing);
  return drawn.length ? h("div", { class: "charts" }, drawn.map(([title, drawing]) => h("figure", { class: "panel" }, h("figcaption", {}, title), drawing))) : null;
}

const byText = (a, b) => String(a).localeCompare(String(b), "en", { numeric: true });

/** By what tables are sorted, and what they show: so they are found again. */
const arranged = new Map();

/** A table that sorts by its columns, and shows what holds the words that are typed; and what keys do in it. */
function table(name, columns, rows, open) {
  let { by, down, typed } = arranged.get(name) ?? { by: "", down: false, typed: "" };
  const body = h("tbody");
  const head = h("tr");
  const words = h("input", { type: "search", value: typed, placeholder: "Filter  /", "aria-label": "filter", oninput: () => fillIn() });
  const shown = h("span", { class: "soft", role: "status" });
  const cell = (column, row) => {
    const [, of, kind, write] = column;
    const value = of(row);
    if (kind === "pill") return h("td", {}, h("span", { class: `pill ${value || "live"}` }, value || "under way"));
    return h("td", { class: kind === "number" ? "num" : "" }, kind === "number" ? (write ?? String)(value) : value);
  };
  const fillIn = () => {
    arranged.set(name, { by, down, typed: words.value });
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let kept = rows.filter((row) => wanted.every((word) => columns.some((column) => String(column[1](row)).toLowerCase().includes(word))));
    const sorting = columns.find(([title]) => title === by);
    if (sorting) {
      const [, of, kind] = sorting;
      kept = [...kept].sort((a, b) => (down ? -1 : 1) * (kind === "number" ? (of(a) ?? -Infinity) - (of(b) ?? -Infinity) || 0 : byText(of(a), of(b))));
    }
    shown.textContent = kept.length === rows.length ? "" : `${kept.length} of ${rows.length}`;
    replace(body, kept.map((row) => h("tr", { tabindex: 0, class: "row", onclick: () => open(row), onkeydown: (event) => event.key === "Enter" && open(row) }, columns.map((column) => cell(column, row)))));
    replace(head, columns.map(([title, , kind]) => h("th", { class: kind === "number" ? "num" : "", "aria-sort": by === title ? (down ? "descending" : "ascending") : null },
      h("button", { onclick: () => { [by, down] = [title, by === title ? !down : kind === "number"]; fillIn(); } }, title, by === title ? (down ? " ↓" : " ↑") : ""))));
  };
  fillIn();
  const at = (index) => body.rows[Math.max(0, Math.min(body.rows.length - 1, index))]?.focus();
  const here = () => [...body.rows].indexOf(document.activeElement);
  const keys = { j: () => at(here() + 1), k: () => at(here() - 1), g: () => at(0), G: () => at(Infinity), "/": () => { words.focus(); words.select(); } };
  return { keys, box: h("div", {}, rows.length > 5 ? h("div", { class: "controls" }, words, shown) : null, h("div", { class: "panel" }, h("table", {}, h("thead", {}, head), body))) };
}

/** Of each benchmark: tasks beside agents; of one agent, its tasks in a row. */
function matrices(episodes, open) {
  const benchmarks = [...new Set(episodes.map((e) => e.benchmark))];
  return benchmarks.map((benchmark) => {
    const here = episodes.filter((e) => e.benchmark === benchmark);
    const tasks = [...new Set(here.map((e) => e.task))];
    const agents = [...new Set(here.map((e) => e.agent))];
    if (tasks.length * agents.length < 2) return null;
    const of = (task, agent) => here.filter((e) => e.task === task && e.agent === agent);
    const title = `${agents.length > 1 ? "Tasks × agents" : "Tasks"}${benchmarks.length > 1 ? ` of ${benchmark}` : ""}`;
    if (agents.length === 1) return [h("h2", {}, title), h("div", { class: "tiles" }, tasks.map((task) => square(of(task, agents[0]), open, task)))];
    return [h("h2", {}, title), h("div", { class: "panel matrix-panel" }, h("table", { class: "matrix" },
      h("thead", {}, h("tr", {}, h("th"), agents.map((agent) => h("th", {}, agent)))),
      h("tbody", {}, tasks.map((task) => h("tr", {}, h("th", {}, task), agents.map((agent) => h("td", {}, square(of(task, agent), open))))))))];
  });
}

function square(episodes, open, name = "") {
  const scored = episodes.filter((e) => e.score);
  const mean = scored.length ? scored.reduce((sum, e) => sum + e.score.value, 0) / scored.length : null;
  const flagged = scored.some((e) => e.score.flags.length);
  const faults = episodes.some((e) => e.outcome === "fault");
  const box = h("button", { class: `square${mean === null ? " none" : ""}${flagged ? " flagged" : ""}`, disabled: !episodes.length,
    title: episodes.map((e) => `${name ? `${name}, ` : ""}epoch ${e.epoch}: ${e.outcome ?? "under way"} ${e.score ? score(e.score.value) : ""}`).join("\n"),
    onclick: () => episodes.length && open({ view: "episode", episode: episodes[0].episode, run: episodes[0].episode.split("/")[0] }) },
  name ? h("span", { class: "name" }, name) : null, mean === null ? (faults ? "fault" : "–") : mean.toFixed(2));
  if (mean !== null) box.style.setProperty("--shade", `${Math.round(Math.max(0, Math.min(1, mean)) * 100)}%`);
  return box;
}

const signed = (value) => `${value >= 0 ? "+" : ""}${value.toFixed(3)}`;

function comparisons(found) {
  const several = new Set(found.map(({ benchmark }) => benchmark)).size > 1;
  const heads = ["A against B", "A − B", "95 %", "won", "tied", "lost", "verdict"];
  return h("div", { class: "panel" }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((name, i) => h("th", { class: i > 0 && i < 6 ? "num" : "" }, name)))),
    h("tbody", {}, found.map(({ benchmark, a, b, result, verdict }) => {
      const { value, low, high } = result.difference;
      return h("tr", {}, h("td", {}, `${a} against ${b}`, several ? h("span", { class: "soft" }, ` on ${benchmark}`) : null), h("td", { class: "num" }, signed(value)),
        h("td", { class: "num" }, low === null ? "–" : `${signed(low)} to ${signed(high)}`), h("td", { class: "num" }, result.wins),
        h("td", { class: "num" }, result.tasks - result.wins - result.losses), h("td", { class: "num" }, result.losses), h("td", {}, verdict));
    }))));
}
