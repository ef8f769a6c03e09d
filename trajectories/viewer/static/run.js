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

export async function runView(root, run, open) {
  const found = await get("run", { run });
  const { episodes, summary } = found;
  const done = episodes.filter((e) => e.outcome !== null);
  const several = new Set(episodes.map((e) => e.benchmark)).size > 1;
  replace(root, h("div", { class: "scroll page" },
    h("header", { class: "run-head" },
      h("h1", {}, found.name || found.run),
      h("span", { class: "soft" }, found.name ? found.run : ""),
      found.busy ? h("span", { class: "pill live" }, "at work") : null),
    h("div", { class: "cards" },
      card(`${done.length}${done.length < summary.episodes ? ` of ${summary.episodes}` : ""}`, done.length === 1 ? "episode" : "episodes"),
      card(score(summary.metrics.score), "mean score"),
      card(percent(summary.metrics.success_rate), "success"),
      card(usd(summary.cost_usd), "cost"),
      summary.outcomes.fault ? card(summary.outcomes.fault, "faults", "bad") : null),
    charts(summary.agents),
    matrices(episodes, open),
    h("h2", {}, "Episodes"),
    table(several ? [["benchmark", (e) => e.benchmark, "text"], ...COLUMNS] : COLUMNS, episodes, (e) => open({ view: "episode", episode: e.episode, run })),
    summary.comparisons.length ? [h("h2", {}, "Paired by task"), comparisons(summary.comparisons)] : null,
    h("h2", {}, "Experiment"),
    block(found.experiment, {})));
  return { keys: {}, leave: () => {} };
}

export async function runsView(root, open) {
  const runs = await get("runs");
  const columns = [["run", (r) => r.run, "text"], ["benchmarks", (r) => [r.benchmarks].flat().join(", "), "text"], ["agents", (r) => [r.agents].flat().join(", "), "text"],
    ["done", (r) => r.done, "number", (v) => v], ["state", (r) => r.state, "text"]];
  replace(root, h("div", { class: "scroll page" }, h("header", { class: "run-head" }, h("h1", {}, "Runs")),
    runs.length ? table(columns, runs, (r) => open({ view: "run", run: r.run })) : h("p", { class: "soft" }, "There are no runs here yet: trellis run makes one.")));
  return { keys: {}, leave: () => {} };
}

const card = (value, title, kind = "") => h("div", { class: `card ${kind}` }, h("b", {}, value), h("span", {}, title));

function charts(agents) {
  const drawn = [["Score, with 95 % intervals", scores(agents)], ["Cost and score", costs(agents)]].filter(([, drawing]) => drawing);
  return drawn.length ? h("div", { class: "charts" }, drawn.map(([title, drawing]) => h("figure", { class: "panel" }, h("figcaption", {}, title), drawing))) : null;
}

const byText = (a, b) => String(a).localeCompare(String(b), "en", { numeric: true });

/** A table that sorts by its columns, and shows what holds the words that are typed. */
function table(columns, rows, open) {
  let [by, down] = [null, false];
  const body = h("tbody");
  const head = h("tr");
  const words = h("input", { type: "search", placeholder: "Filter", "aria-label": "filter", oninput: () => fillIn() });
  const shown = h("span", { class: "soft" });
  const cell = (column, row) => {
    const [, of, kind, write] = column;
    const value = of(row);
    if (kind === "pill") return h("td", {}, h("span", { class: `pill ${value || "live"}` }, value || "under way"));
    return h("td", { class: kind === "number" ? "num" : "" }, kind === "number" ? (write ?? String)(value) : value);
  };
  const fillIn = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let kept = rows.filter((row) => wanted.every((word) => columns.some((column) => String(column[1](row)).toLowerCase().includes(word))));
    if (by) {
      const number = by[2] === "number";
      kept = [...kept].sort((a, b) => (down ? -1 : 1) * (number ? (by[1](a) ?? -Infinity) - (by[1](b) ?? -Infinity) : byText(by[1](a), by[1](b))));
    }
    shown.textContent = kept.length === rows.length ? "" : `${kept.length} of ${rows.length}`;
    replace(body, kept.map((row) => h("tr", { tabindex: 0, class: "row", onclick: () => open(row), onkeydown: (event) => event.key === "Enter" && open(row) }, columns.map((column) => cell(column, row)))));
    replace(head, columns.map((column) => h("th", { class: column[2] === "number" ? "num" : "" },
      h("button", { onclick: () => { [by, down] = [column, by === column ? !down : column[2] === "number"]; fillIn(); } }, column[0], by === column ? (down ? " ↓" : " ↑") : ""))));
  };
  fillIn();
  return h("div", {}, rows.length > 5 ? h("div", { class: "controls" }, words, shown) : null, h("div", { class: "panel" }, h("table", {}, h("thead", {}, head), body)));
}

function matrices(episodes, open) {
  return [...new Set(episodes.map((e) => e.benchmark))].map((benchmark) => {
    const here = episodes.filter((e) => e.benchmark === benchmark);
    const tasks = [...new Set(here.map((e) => e.task))];
    const agents = [...new Set(here.map((e) => e.agent))];
    if (tasks.length * agents.length < 2) return null;
    return [h("h2", {}, "Tasks × agents"), h("div", { class: "panel" }, h("table", { class: "matrix" },
      h("thead", {}, h("tr", {}, h("th", {}, benchmark), agents.map((agent) => h("th", {}, agent)))),
      h("tbody", {}, tasks.map((task) => h("tr", {}, h("th", {}, task), agents.map((agent) =>
        h("td", {}, square(here.filter((e) => e.task === task && e.agent === agent), open))))))))];
  });
}

function square(episodes, open) {
  const scored = episodes.filter((e) => e.score);
  const mean = scored.length ? scored.reduce((sum, e) => sum + e.score.value, 0) / scored.length : null;
  const flagged = scored.some((e) => e.score.flags.length);
  const faults = episodes.some((e) => e.outcome === "fault");
  const box = h("button", { class: `square${mean === null ? " none" : ""}${flagged ? " flagged" : ""}`, disabled: !episodes.length,
    title: episodes.map((e) => `epoch ${e.epoch}: ${e.outcome ?? "under way"} ${e.score ? score(e.score.value) : ""}`).join("\n"),
    onclick: () => episodes.length && open({ view: "episode", episode: episodes[0].episode, run: episodes[0].episode.split("/")[0] }) },
  mean === null ? (faults ? "fault" : "–") : mean.toFixed(2));
  if (mean !== null) box.style.setProperty("--shade", `${Math.round(Math.max(0, Math.min(1, mean)) * 100)}%`);
  return box;
}

const signed = (value) => `${value >= 0 ? "+" : ""}${value.toFixed(3)}`;

function comparisons(found) {
  const heads = ["A against B", "A − B", "95 %", "won", "tied", "lost", "verdict"];
  return h("div", { class: "panel" }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((name, i) => h("th", { class: i > 0 && i < 6 ? "num" : "" }, name)))),
    h("tbody", {}, found.map(({ a, b, result, verdict }) => {
      const { value, low, high } = result.difference;
      return h("tr", {}, h("td", {}, `${a} against ${b}`), h("td", { class: "num" }, signed(value)),
        h("td", { class: "num" }, low === null ? "–" : `${signed(low)} to ${signed(high)}`), h("td", { class: "num" }, result.wins),
        h("td", { class: "num" }, result.tasks - result.wins - result.losses), h("td", { class: "num" }, result.losses), h("td", {}, verdict));
    }))));
}
