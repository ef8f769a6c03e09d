// Long texts, terminal colours, differences.

import { h, plural, shown } from "./dom.js";
import { get } from "./source.js";

const LINES = 40;
const CONTROL = /\u001b(?:\[([0-9;:]*)([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[PX^_][^\u001b]*(?:\u001b\\)?|[ -/]*[0-~])/g;
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

function style(codes, classes) {
  const next = new Set(classes);
  const drop = (prefix) => [...next].forEach((name) => name.startsWith(prefix) && next.delete(name));
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code === 0) next.clear();
    else if (code === 1) next.add("bold");
    else if (code === 3) next.add("italic");
    else if (code === 4) next.add("underline");
    else if (code === 22) next.delete("bold");
    else if (code === 39) drop("fg-");
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) {
      drop("fg-");
      next.add(`fg-${NAMES[code % 10]}`);
    } else if (code === 38 || code === 48) i += codes[i + 1] === 5 ? 2 : 4; // of 256 or all colours: not shown
  }
  return next;
}

/** What a terminal would show: colours as colours, other sequences left out (the log keeps them). */
export function ansi(text) {
  if (!text.includes("\u001b") && !text.includes("\r")) return shown(text);
  const out = document.createDocumentFragment();
  let at = 0;
  let classes = new Set();
  const put = (piece) => {
    const plain = piece.replace(/\r\n/g, "\n");
    if (!plain) return;
    out.append(classes.size ? h("span", { class: [...classes].join(" ") }, plain) : shown(plain));
  };
  for (const match of text.matchAll(CONTROL)) {
    put(text.slice(at, match.index));
    if (match[2] === "m") classes = style((match[1] || "0").split(/[;:]/).map(Number), classes);
    at = match.index + match[0].length;
  }
  put(text.slice(at));
  return out;
}

/** A unified diff, line by line. */
export function difference(text) {
  return h("pre", { class: "code diff" }, text.split("\n").map((line) => {
    const kind = line.startsWith("@@") ? "hunk" : /^(\+\+\+|---|diff |index |new file|deleted file)/.test(line) ? "head"
      : line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : "";
    return h("span", { class: `line ${kind}` }, `${line}\n`);
  }));
}

/** Is it the beginning of a long text? An object of somebody else's may have such names too. */
export const isClipped = (value) => typeof value?.clipped === "string" && typeof value.chars === "number" && typeof value.at === "string";

/** A text in a block: folded where it is long, the rest of a clipped one fetched when asked for.
    `where` says how: {e, n} of the step that holds it, or null. */
export function block(value, { render = shown, kind = "", where = null } = {}) {
  const clipped = isClipped(value);
  const text = clipped ? value.clipped : typeof value === "string" ? value : JSON.stringify(value ?? "", null, 1);
  const lines = text.split("\n");
  const pre = h("pre", { class: `code ${kind}` });
  const box = h("div", { class: "block" }, pre);
  const whole = () => pre.replaceChildren(render(text));
  if (lines.length > LINES + 5) {
    pre.append(render(lines.slice(0, LINES).join("\n")));
    const more = h("button", { class: "more", onclick: () => { whole(); more.remove(); } }, `show all ${plural(lines.length, "line")}`);
    box.append(more);
  } else {
    whole();
  }
  if (clipped) box.append(where ? rest(value, where, pre, render) : h("p", { class: "soft" }, `${plural(value.chars, "character")}; the whole is in the log`));
  if (text) box.append(copier(() => text));
  return box;
}

/** A reply's pieces: what stands between fences is code. */
function fenced(text) {
  const pieces = [];
  let lines = [];
  let fence = null;
  const end = () => {
    const piece = lines.join("\n");
    if (piece.trim()) pieces.push({ code: fence !== null, text: fence === null ? piece.trim() : piece });
    lines = [];
  };
  for (const line of text.split("\n")) {
    const bare = line.trim();
    const opens = fence === null && /^(`{3,}|~{3,})[^`]*$/.exec(bare);
    if (opens || bare === fence) {
      end();
      fence = opens ? opens[1] : null;
    } else lines.push(line);
  }
  end();
  return pieces;
}

/** What a model said, with its fenced code as code. `repeats(code)`: is this code shown anyhow? Then it is folded. */
export function prose(value, { where = null, repeats = () => false } = {}) {
  if (typeof value !== "string") return block(value, { kind: "prose", where }); // clipped: its rest comes later
  return h("div", { class: "said" }, fenced(value).map(({ code, text }) => {
    if (!code) return block(text, { kind: "prose", where });
    if (!repeats(text)) return block(text, { where });
    return h("details", { class: "fold" }, h("summary", {}, h("span", { class: "soft" }, `code, as in the call below (${plural(text.split("\n").length, "line")})`)), block(text, { where }));
  }));
}

/** Marks where a text is found in what is in sight, without a change to the document. */
export function mark(root, text) {
  if (!window.CSS?.highlights) return;
  const wanted = text.toLowerCase();
  const ranges = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (wanted && walker.nextNode() && ranges.length < 2000) {
    const here = walker.currentNode.data.toLowerCase();
    if (here.length !== walker.currentNode.length) continue; // other places in lower case
    for (let at = here.indexOf(wanted); at >= 0; at = here.indexOf(wanted, at + wanted.length)) {
      const range = new Range();
      range.setStart(walker.currentNode, at);
      range.setEnd(walker.currentNode, at + wanted.length);
      ranges.push(range);
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

function rest(value, where, pre, render) {
  let length = value.clipped.length;
  let text = value.clipped;
  const said = () => `${plural(value.chars, "character")}, of which ${length.toLocaleString("en")} are shown. Show more`;
  const button = h("button", { class: "more" }, said());
  button.addEventListener("click", async () => {
    try {
      const found = await get("text", { ...where, at: value.at, from: length });
      text += found.text;
      length += found.text.length;
      pre.replaceChildren(render(text));
      if (length >= found.chars || !found.text) button.remove();
      else button.textContent = said();
    } catch (error) {
      button.textContent = error.message;
      button.disabled = true;
    }
  });
  return button;
}

export function copier(text) {
  const button = h("button", { class: "copy", title: "copy", "aria-label": "copy" }, "copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text());
    button.textContent = "copied";
    setTimeout(() => (button.textContent = "copy"), 1200);
  });
  return button;
}
