// Long texts, terminal colours, differences.

import { h, plural, shown } from "./dom.js";
import { get } from "./source.js";

const LINES = 40;
const CONTROL = /\u001b(?:\[([0-9;:]*)([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[PX^_][^\u001b]*(?:\u001b\\)?|[ -/]*[0-~])/g;
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const FLAGS = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse" };
const ENDS = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 39: ["fg"], 49: ["bg"] };
const LEVELS = [0, 95, 135, 175, 215, 255];

/** The colour that codes 38 and 48 say with those behind them, and how many of those there are. */
function colourOf(kind, a, b, c) {
  if (kind === 2) return [[a, b, c], 4];
  if (kind !== 5) return [null, 0];
  if (a < 16) return [NAMES[a % 8], 2];
  return [a < 232 ? [36, 6, 1].map((by) => LEVELS[Math.floor((a - 16) / by) % 6]) : Array(3).fill(8 + 10 * (a - 232)), 2];
}

/** `was`, changed by codes. Colours are names, or red, green and blue. */
function styled(codes, was) {
  let now = { ...was };
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    const [tens, ones] = [Math.floor(code / 10), code % 10];
    if (code === 0) now = {};
    else if (FLAGS[code]) now[FLAGS[code]] = true;
    else if (ENDS[code]) ENDS[code].forEach((name) => delete now[name]);
    else if (code === 38 || code === 48) {
      const [colour, more] = colourOf(...codes.slice(i + 1, i + 5));
      if (colour) now[code === 38 ? "fg" : "bg"] = colour;
      i += more;
    } else if (ones < 8 && (tens === 3 || tens === 9)) now.fg = NAMES[ones];
    else if (ones < 8 && (tens === 4 || tens === 10)) now.bg = NAMES[ones];
  }
  return now;
}

function inStyle({ fg, bg, ...flags }, text) {
  const classes = [...Object.keys(flags), typeof fg === "string" && `fg-${fg}`, typeof bg === "string" && `bg-${bg}`].filter(Boolean);
  const box = h("span", { class: classes.join(" ") }, text);
  if (Array.isArray(fg)) box.style.color = `color-mix(in srgb, rgb(${fg}) 75%, var(--ink))`; // to be read on any ground
  if (Array.isArray(bg)) box.style.background = `color-mix(in srgb, rgb(${bg}) 40%, transparent)`;
  return box;
}

/** What a terminal would show: colours as colours, other sequences left out (the log keeps them). */
export function ansi(text) {
  if (!text.includes("\u001b") && !text.includes("\r")) return shown(text);
  const out = document.createDocumentFragment();
  let at = 0;
  let style = {};
  const put = (piece) => {
    const plain = piece.replace(/\r\n/g, "\n");
    if (plain) out.append(Object.keys(style).length ? inStyle(style, plain) : shown(plain));
  };
  for (const match of text.matchAll(CONTROL)) {
    put(text.slice(at, match.index));
    if (match[2] === "m") style = styled((match[1] || "0").split(/[;:]/).map(Number), style);
    at = match.index + match[0].length;
  }
  put(text.slice(at));
  return out;
}

const MOST_COLOURED = 50_000;
const PIECES = new RegExp([
  String.raw`(?<comment>(?<!\S)#[^\n]*)`,
  String.raw`(?<string>"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)`,
  String.raw`\b(?<keyword>and|as|assert|async|await|break|class|continue|def|del|elif|else|except|False|finally|for|from|global|if|import|in|is|lambda|None|nonlocal|not|or|pass|raise|return|True|try|while|with|yield)\b`,
  String.raw`\b(?<number>\d[\w.]*)`,
].join("|"), "g");

/** Python, with its comments, strings, keywords and numbers told apart. */
export function python(text) {
  if (text.length > MOST_COLOURED) return shown(text);
  const out = document.createDocumentFragment();
  let at = 0;
  for (const match of text.matchAll(PIECES)) {
    const [kind] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    out.append(shown(text.slice(at, match.index)), h("span", { class: `code-${kind}` }, match[0]));
    at = match.index + match[0].length;
  }
  out.append(shown(text.slice(at)));
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
  let language = "";
  const end = () => {
    const piece = lines.join("\n");
    if (piece.trim()) pieces.push({ code: fence !== null, language, text: fence === null ? piece.trim() : piece });
    lines = [];
  };
  for (const line of text.split("\n")) {
    const bare = line.trim();
    const opens = fence === null && /^(`{3,}|~{3,})([^`]*)$/.exec(bare);
    if (opens || bare === fence) {
      end();
      [fence, language] = opens ? [opens[1], opens[2].trim().toLowerCase()] : [null, ""];
    } else lines.push(line);
  }
  end();
  return pieces;
}

/** What a model said, with its fenced code as code. `repeats(code)`: is this code shown anyhow? Then it is folded. */
export function prose(value, { where = null, repeats = () => false } = {}) {
  if (typeof value !== "string") return block(value, { kind: "prose", where }); // clipped: its rest comes later
  return h("div", { class: "said" }, fenced(value).map(({ code, language, text }) => {
    if (!code) return block(text, { kind: "prose", where });
    const render = /^(py|python3?|ipython)$/.test(language) ? python : shown;
    if (!repeats(text)) return block(text, { render, where });
    return h("details", { class: "fold" }, h("summary", {}, h("span", { class: "soft" }, `code, as in the call below (${plural(text.split("\n").length, "line")})`)), block(text, { render, where }));
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
