// An episode: its steps, its search tree, its judge, and what it was.

import { count, h, plural, replace, score, seconds, usd } from "./dom.js";
import { alone, forget, get, getOnce } from "./source.js";
import { VirtualList } from "./list.js";
import { sheet } from "./sheet.js";
import { act, conversation, raw, stepCard } from "./step.js";
import { block, mark } from "./text.js";
import { timeline } from "./timeline.js";
import { treeView } from "./tree.js";

const WINDOW = 100;

const STEP_KEYS = [["j / k", "next, previous step; in a tree, node"], ["n / p", "next, previous hit of the search (or error)"], ["/", "search"], ["g / G", "first, last step"],
  ["t", "tree of a search, and back"]];

/** Shows the episode in `root`; returns what a key does, and how to leave. */
export async function episodeView(root, episode) {
  let overview = await get("episode", { e: episode });
  let numbers = [];
  let hits = [];
  const filters = { branch: "", tool: "", errors: false, text: "" };
  const live = () => overview.live && !alone;

  // --- the frame ---
  const head = h("div", { class: "episode-head" });
  const bar = h("div", { class: "bar" });
  const scroller = h("div", { class: "steps", tabIndex: -1 });
  const main = h("div", { class: "stage" });
  replace(root, head, main);

  const windows = new Map();
  const windowOf = (number) => 1 + Math.floor((number - 1) / WINDOW) * WINDOW;
  const load = (start) => {
    if (!windows.has(start)) {
      const found = { asked: getOnce("steps", { e: episode, from: String(start), count: String(WINDOW) }), steps: null };
      windows.set(start, found);
      found.asked.then((steps) => { found.steps = steps; }, () => windows.get(start) === found && windows.delete(start));
    }
    return windows.get(start);
  };
  const actions = {
    live,
    conversation: async (step) => sheet(`What the call of step ${step.number} sent`, async () =>
      conversation(await get("conversation", { e: episode, n: String(step.number) }), episode, step.number)),
    raw: async (step) => sheet(`Step ${step.number} in the log`, async () => raw(await get("raw", { e: episode, n: String(step.number) }))),
  };
  const list = new VirtualList(scroller, (number) => {
    const found = load(windowOf(number));
    const box = h("div", { class: "item" });
    const put = (steps) => {
      const step = steps[number - windowOf(number)];
      replace(box, step && !step.damaged ? stepCard(step, episode, actions) : h("article", { class: "step empty bad" }, `#${number} ${step?.damaged ?? ""}`));
      box.classList.toggle("hit", hits.includes(number));
      box.classList.toggle("current", current === number);
      if (filters.text) remark();
    };
    if (found.steps) put(found.steps);
    else {
      replace(box, h("article", { class: "step empty" }, `#${number} …`));
      found.asked.then(put, (error) => replace(box, h("article", { class: "step empty bad" }, error.message)));
    }
    return box;
  });

  let current = null;
  let marking = 0;
  const remark = () => {
    cancelAnimationFrame(marking);
    marking = requestAnimationFrame(() => mark(scroller, filters.text));
  };
  scroller.addEventListener("toggle", remark, true); // what is unfolded is marked too
  const goTo = (number, { quiet = false } = {}) => {
    if (tab !== "steps") show("steps");
    if (!numbers.includes(number)) {
      Object.assign(filters, { branch: "", tool: "", errors: false });
      refilter();
    }
    const index = numbers.indexOf(number);
    if (index < 0) return;
    current = number;
    scroller.focus({ preventScroll: true }); // so that the keys move on, also after a search
    list.scrollTo(index);
    for (const element of scroller.querySelectorAll(".item")) element.classList.toggle("current", numbers[Number(element.dataset.index)] === number);
    marks.at(number);
    if (!quiet) history.replaceState(null, "", `#step=${number}`);
  };

  const marks = timeline(goTo);

  // --- filters ---
  let columns = null;
  const matching = () => {
    const all = Array.from({ length: overview.steps }, (_, i) => i + 1);
    if (!columns || !(filters.branch || filters.tool || filters.errors)) return all;
    return all.filter((n) => (!filters.branch || columns.branch[n - 1] === filters.branch) && (!filters.tool || columns.tools[n - 1].includes(filters.tool)) && (!filters.errors || columns.errors[n - 1] > 0));
  };
  const refilter = () => {
    numbers = matching();
    list.show(numbers);
    saidHowMany();
    branches.value = filters.branch;
    tools.value = filters.tool;
    errors.checked = filters.errors;
  };
  const saidHowMany = () => {
    const said = numbers.length === overview.steps ? plural(overview.steps, "step") : `${numbers.length.toLocaleString("en")} of ${plural(overview.steps, "step")}`;
    shownCount.textContent = hits.length ? `${said}, ${plural(hits.length, "hit")}` : said;
  };
  const shownCount = h("span", { class: "soft", role: "status" });
  const search = h("input", { type: "search", placeholder: "Search  /", "aria-label": "search" });
  const runSearch = async () => {
    filters.text = search.value.trim();
    hits = [];
    if (filters.text) {
      try {
        hits = alone ? await searchHere(filters.text) : await get("search", { e: episode, q: filters.text });
      } catch (error) {
        shownCount.textContent = error.message;
        return;
      }
    }
    refilter();
    if (hits.length) goTo(hits[0]);
    remark();
  };
  const searchHere = async (text) => {
    const wanted = text.toLowerCase();
    const found = [];
    for (let start = 1; start <= overview.steps; start += WINDOW) {
      for (const step of await load(start).asked) if (JSON.stringify(step).toLowerCase().includes(wanted)) found.push(step.number);
    }
    return found;
  };
  search.addEventListener("change", runSearch);
  const branches = h("select", { "aria-label": "branch", onchange: () => { filters.branch = branches.value; refilter(); } });
  const tools = h("select", { "aria-label": "tool", onchange: () => { filters.tool = tools.value; refilter(); } });
  const errors = h("input", { type: "checkbox", onchange: () => { filters.errors = errors.checked; refilter(); } });

  // --- parts ---
  let tab = "";
  let tree = null;
  let picked = null; // node of it
  const tabs = () => [["steps", `Steps`], overview.nodes.length ? ["tree", "Tree"] : null, overview.judged ? ["judge", "Judge"] : null, ["about", "About"]].filter(Boolean);
  const tabBar = h("nav", { class: "tabs" });
  const drawTabs = () => replace(tabBar, tabs().map(([name, title]) => h("button", { class: name === tab ? "on" : "", onclick: () => show(name) }, title)));
  const show = (name) => {
    tab = name;
    drawTabs();
    bar.hidden = name !== "steps";
    if (name === "steps") replace(main, bar, scroller);
    else if (name === "tree") {
      tree = treeView(overview, episode, { picked, goTo, pick: (id) => {
        picked = id;
        history.replaceState(null, "", `#${new URLSearchParams({ node: id })}`);
      } });
      replace(main, h("div", { class: "scroll", tabIndex: -1 }, tree.box));
    }
    else if (name === "judge") replace(main, h("div", { class: "scroll narrow", tabIndex: -1 }, "…")), judge(main.firstChild);
    else replace(main, h("div", { class: "scroll narrow", tabIndex: -1 }, about(), openings()));
    if (name === "steps") list.draw();
    main.lastChild.focus({ preventScroll: true }); // so that the keys of the browser scroll it
  };
  const judge = async (box) => {
    const steps = await get("judgements", { e: episode });
    replace(box, steps.map((step) => stepCard(step, episode, actions)));
  };
  const about = () => {
    const { header, result } = overview;
    const { packages, ...rest } = header;
    return [
      result ? [h("h2", {}, "Result"), block(JSON.stringify(result, null, 1))] : null,
      h("h2", {}, "Header"), block(JSON.stringify(rest, null, 1)),
      packages ? [h("h2", {}, "Packages"), block(JSON.stringify(packages, null, 1))] : null,
    ];
  };
  /** Calls that no step made: what a scaffold did before it asked a model. */
  const openings = () => overview.branches.filter((branch) => branch.opening).map(({ name }) => {
    const box = h("div", {}, "…");
    getOnce("opening", { e: episode, branch: name }).then(
      (acts) => replace(box, acts.map((each, i) => act(each, episode, { e: episode }, `opening/${name}/${i}`))), (error) => replace(box, error.message));
    return [h("h2", {}, `Before the first step of ${name}`), box];
  });
  const drawHead = () => {
    const { header, result } = overview;
    const e = header.episode;
    const sum = (name) => (columns ? columns[name].reduce((all, value) => all + (value ?? 0), 0) : null);
    const priced = columns ? (columns.cost_usd.every((value, i) => value !== null || columns.ended[i] === null) ? sum("cost_usd") : null) : undefined;
    const outcome = result ? result.outcome : live() ? "live" : header.imported?.outcome || "";
    const value = result?.score ? result.score.value : header.imported?.score;
    replace(head,
      h("div", { class: "title" },
        h("h1", {}, e.task),
        h("span", { class: "soft" }, `${e.agent} · ${e.benchmark} · epoch ${e.epoch}`),
        header.fork ? h("span", { class: "pill", title: header.fork.trajectory }, `fork of ${header.fork.episode.agent} after step ${header.fork.at}`) : null,
        header.imported ? h("span", { class: "pill" }, `from ${header.imported.format}`) : null),
      h("div", { class: "facts" },
        outcome ? h("span", { class: `pill ${outcome}` }, outcome) : null,
        value !== null && value !== undefined ? h("span", { class: "fact" }, h("b", {}, score(value)), " score") : null,
        (result?.score?.flags ?? []).map((flag) => h("span", { class: "pill bad" }, flag)),
        h("span", { class: "fact" }, h("b", {}, overview.steps.toLocaleString("en")), overview.steps === 1 ? " step" : " steps"),
        columns ? h("span", { class: "fact" }, h("b", {}, count(sum("input") + sum("output"))), " tokens") : null,
        priced !== undefined ? h("span", { class: "fact" }, h("b", {}, usd(priced))) : null,
        h("span", { class: "fact" }, h("b", {}, seconds(overview.ended_at))),
        result?.score?.explanation ? h("span", { class: "soft explained", title: result.score.explanation }, result.score.explanation) : null),
      tabBar);
  };
  const drawBar = () => {
    replace(branches, h("option", { value: "" }, "all branches"), overview.branches.map((b) => h("option", { value: b.name }, `${b.name} (${b.steps})`)));
    branches.hidden = overview.branches.length < 2;
    branches.value = filters.branch;
    if (!columns) return;
    const named = [...new Set(columns.tools.flat())].sort();
    replace(tools, named.length > 1 && h("option", { value: "" }, "all tools"), named.length > 1 && named.map((name) => h("option", { value: name }, name)));
    tools.hidden = named.length < 2;
    tools.value = filters.tool;
    marks.show(columns);
  };

  replace(bar, h("div", { class: "controls" }, search, branches, tools, h("label", {}, errors, " with errors"), shownCount), marks.box);

  // --- the order in which it comes into sight ---
  drawHead();
  drawBar();
  show("steps");
  refilter();
  const goToAddress = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    if (asked.has("step")) goTo(Number(asked.get("step")), { quiet: true });
    if (asked.has("node") && overview.nodes.length) {
      picked = asked.get("node");
      show("tree");
    }
  };
  goToAddress();
  const firstOnes = windows.get(windowOf(current ?? 1))?.asked; // they come first into sight
  Promise.resolve(firstOnes).catch(() => {}).then(() => getOnce("timeline", { e: episode })).then((found) => {
    columns = found;
    drawHead();
    drawTabs();
    drawBar();
  });

  let left = false;
  const follow = async () => {
    while (!left && live()) {
      if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true })); // a browser asks few things of a server at a time
      try {
        const news = await get("news", { e: episode, after: String(overview.events) });
        if (left) return;
        if (news.events === overview.events && !news.ended) continue;
        if (news.events < overview.events) return location.reload(); // it was begun afresh
        forget("timeline", { e: episode });
        const open = new Set(new Map((columns?.branch ?? []).map((name, i) => [name, i + 1])).values()); // they may have gone on
        const changed = new Set([...open].map(windowOf)).add(windowOf(overview.steps || 1));
        const known = overview.nodes.length;
        overview = await get("episode", { e: episode });
        columns = await get("timeline", { e: episode });
        for (const start of changed) {
          forget("steps", { e: episode, from: String(start), count: String(WINDOW) });
          windows.delete(start);
        }
        drawHead();
        drawTabs();
        drawBar();
        numbers = matching();
        const stick = list.atEnd; // asked now: somebody may have scrolled meanwhile
        list.show(numbers, (number) => open.has(number));
        saidHowMany();
        if (tab === "tree" && overview.nodes.length !== known) show("tree");
        if (stick && numbers.length) list.scrollTo(numbers.length - 1);
      } catch {
        await new Promise((again) => setTimeout(again, 2000));
      }
    }
  };
  follow();

  window.addEventListener("hashchange", goToAddress);

  const near = () => (current !== null && numbers.includes(current) ? numbers.indexOf(current) : list.first);
  const move = (by) => goTo(numbers[Math.max(0, Math.min(numbers.length - 1, near() + by))]);
  const jump = (by) => {
    const stops = hits.length ? hits : columns ? numbers.filter((n) => columns.errors[n - 1] > 0) : [];
    const here = numbers[near()] ?? 0;
    const next = by > 0 ? stops.find((n) => n > here) : [...stops].reverse().find((n) => n < here);
    if (next !== undefined) goTo(next);
  };
  const keys = {
    j: () => (tab === "tree" ? tree.move(1) : move(1)), k: () => (tab === "tree" ? tree.move(-1) : move(-1)), n: () => jump(1), p: () => jump(-1), g: () => goTo(numbers[0]), G: () => goTo(numbers.at(-1)),
    "/": () => { show("steps"); search.focus(); search.select(); },
    t: () => overview.nodes.length && show(tab === "tree" ? "steps" : "tree"),
  };
  return { keys, help: STEP_KEYS, leave: () => { left = true; marks.leave(); mark(root, ""); window.removeEventListener("hashchange", goToAddress); } };
}
