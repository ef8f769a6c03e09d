// Which page is open, and the keys that work everywhere.

import { h, replace } from "./dom.js";
import { alone, get } from "./source.js";
import { episodeView } from "./episode.js";
import { runsView, runView } from "./run.js";

const app = document.getElementById("app");
let page = { keys: {}, leave: () => {} };

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
const addressOf_ = (place) => {
  if (alone) return location.pathname;
  if (place.view === "run") return `/run?${new URLSearchParams({ run: place.run })}`;
  if (place.view === "episode") return `/episode?${new URLSearchParams({ e: place.episode, ...(place.run ? { run: place.run } : {}) })}`;
  return "/runs";
};
function placeOf(first) {
  const query = new URLSearchParams(location.search);
  if (alone || location.pathname === "/") return first;
  if (location.pathname === "/runs") return { view: "runs" };
  if (location.pathname === "/run") return { view: "run", run: query.get("run") ?? "" };
  return { view: "episode", episode: query.get("e") ?? "", run: query.get("run") };
}
function go(place) {
  if (alone) return;
  history.pushState(null, "", addressOf_(place));
  open(place);
}

async function open(place) {
  page.leave();
  page = { keys: {}, leave: () => {} };
  const root = h("main", { class: `view ${place.view}` });
  const up = (text, to) => h("a", { class: "up", href: addressOf_(to), onclick: (event) => { event.preventDefault(); go(to); } }, text);
  const crumbs = place.run && !alone ? up(place.run, { view: "run", run: place.run }) : null;
  replace(app,
    h("div", { class: "top" },
      alone ? h("b", { class: "brand" }, "Trellis") : h("a", { class: "brand", href: "/runs", onclick: (event) => { event.preventDefault(); go({ view: "runs" }); } }, "Trellis"),
      crumbs, h("span", { class: "spacer" }), h("button", { class: "theme", title: "light or dark (d)", onclick: flip }, "◐")),
    root);
  try {
    page = place.view === "runs" ? await runsView(root, go) : place.view === "run" ? await runView(root, place.run, go) : await episodeView(root, place.episode);
    document.title = `${place.episode?.split("/").slice(-3).join(" ") ?? place.run ?? "Runs"} · Trellis`;
  } catch (error) {
    replace(root, h("div", { class: "scroll page" }, h("p", { class: "bad" }, error.message)));
  }
}

window.addEventListener("popstate", async () => open(placeOf(await get("first"))));
window.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]), select, textarea");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const does = event.key === "d" ? flip : page.keys[event.key];
  if (does) {
    event.preventDefault();
    does();
  }
});

get("first").then(
  (first) => open(location.pathname === "/" || alone ? first : placeOf(first)),
  (error) => replace(app, h("p", { class: "bad" }, error.message)));
