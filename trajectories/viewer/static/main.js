// Which page is open, and the keys that work everywhere.

import { h, replace } from "./dom.js";
import { alone, get } from "./source.js";
import { episodeView } from "./episode.js";
import { runsView, runView } from "./run.js";
import { close, isOpen, sheet } from "./sheet.js";

const app = document.getElementById("app");
const NOTHING = { keys: {}, help: [], leave: () => {} };
let page = NOTHING;
let place = { view: "runs" };
let openedAt = ""; // its address, without the place in it

// --- light and dark ---
const store = (() => {
  try {
    return window.localStorage;
  } catch {
    return null; // a page from a file may keep nothing
  }
})();
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  store?.setItem("theme", theme);
  for (const canvas of document.querySelectorAll("canvas")) canvas.dispatchEvent(new Event("redraw"));
}
const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const flip = () => setTheme(isDark() ? "light" : "dark");
const wanted = store?.getItem("theme");
if (wanted === "light" || wanted === "dark") document.documentElement.dataset.theme = wanted;

// --- addresses ---
const addressOfPlace = (to) => {
  if (alone) return location.pathname;
  if (to.view === "run") return `run?${new URLSearchParams({ run: to.run })}`;
  if (to.view === "episode") return `episode?${new URLSearchParams({ e: to.episode, ...(to.run ? { run: to.run } : {}) })}`;
  return "runs";
};
function placeOf(first) {
  const query = new URLSearchParams(location.search);
  const name = location.pathname.split("/").at(-1);
  if (alone || name === "") return first;
  if (name === "runs") return { view: "runs" };
  if (name === "run") return { view: "run", run: query.get("run") ?? "" };
  return { view: "episode", episode: query.get("e") ?? "", run: query.get("run") };
}
function go(to) {
  if (alone) return;
  history.pushState(null, "", addressOfPlace(to));
  open(to);
}
const above = () => (alone || place.view === "runs" ? null : place.view === "episode" && place.run ? { view: "run", run: place.run } : { view: "runs" });
const up = () => above() && go(above());

// --- keys ---
const EVERYWHERE = [["u", "to the run, to all runs"], ["d", "light or dark"], ["Esc", "close"], ["?", "this"]];
const help = () => sheet("Keys", async () => h("dl", { class: "keys" },
  [...page.help, ...EVERYWHERE].filter(([key]) => key !== "u" || above()).map(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])));
const keysEverywhere = { d: flip, u: up, "?": help };

async function open(to) {
  page.leave();
  page = NOTHING;
  [place, openedAt] = [to, address()];
  close();
  const root = h("main", { class: `view ${to.view}` });
  const link = (kind, text, to) => h("a", { class: kind, href: addressOfPlace(to), onclick: (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // in a tab or window of its own
    event.preventDefault();
    go(to);
  } }, text);
  replace(app,
    h("div", { class: "top" },
      alone ? h("b", { class: "brand" }, "Trellis") : link("brand", "Trellis", { view: "runs" }),
      to.run && !alone ? link("up", to.run, { view: "run", run: to.run }) : null,
      h("span", { class: "spacer" }), h("button", { class: "help", title: "keys (?)", "aria-label": "keys", onclick: help }, "?"),
      h("button", { class: "theme", title: "light or dark (d)", "aria-label": "light or dark", onclick: flip }, "◐")),
    root);
  try {
    const found = to.view === "runs" ? await runsView(root, go) : to.view === "run" ? await runView(root, to.run, go) : await episodeView(root, to.episode);
    if (place !== to) return found.leave(); // somebody went elsewhere meanwhile
    page = found;
    document.title = `${to.episode?.split("/").slice(-3).join(" ") ?? to.run ?? "Runs"} · Trellis`;
  } catch (error) {
    replace(root, h("div", { class: "scroll page" }, h("p", { class: "bad" }, error.message)));
  }
}

const address = () => location.pathname + location.search;
window.addEventListener("popstate", async () => address() !== openedAt && open(placeOf(await get("first"))));
window.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]), select, textarea");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing || isOpen() || event.ctrlKey || event.metaKey || event.altKey) return;
  const does = page.keys[event.key] ?? keysEverywhere[event.key];
  if (does) {
    event.preventDefault();
    does();
  }
});

get("first").then(
  (first) => open(placeOf(first)),
  (error) => replace(app, h("p", { class: "bad" }, error.message)));
