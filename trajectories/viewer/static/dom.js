// Elements from data. Text becomes text nodes and nothing else: nothing that a model or tool wrote is ever markup.

// What steers instead of showing: control characters, bidirectional marks, zero-width characters.
const STEERING = /\udb40[\udc00-\udfff]|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const written = (char) => {
  const code = char.codePointAt(0);
  const hex = code.toString(16);
  return code < 256 ? `\\x${hex.padStart(2, "0")}` : code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\u{${hex}}`;
};

/** Text as nodes, with what steers written out. */
export function shown(text) {
  const out = document.createDocumentFragment();
  let at = 0;
  for (const match of text.matchAll(STEERING)) {
    out.append(text.slice(at, match.index));
    const mark = document.createElement("span");
    mark.className = "steering";
    mark.textContent = written(match[0]);
    out.append(mark);
    at = match.index + match[0].length;
  }
  out.append(text.slice(at));
  return out;
}

const SVG = "http://www.w3.org/2000/svg";
const MEMBERS = new Set(["value", "checked", "disabled", "selected", "open", "type", "tabIndex"]);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (MEMBERS.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(4)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : shown(String(child)));
  }
  return element;
}

/** `h("a", {class: "x", onclick: f}, "text", h(...))`. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** The same for drawings. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(4).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// --- numbers, as people read them ---

const none = (value) => typeof value !== "number" || !Number.isFinite(value);
export const count = (value) =>
  none(value) ? "–" : value < 1000 ? String(value)
    : value < 1e6 ? `${(value / 1e3).toFixed(1)}k` : `${(value / 1e6).toFixed(1)}M`;
export const usd = (value) => (none(value) ? "unpriced" : value === 0 ? "$0" : `$${value.toFixed(value < 1 ? 4 : 2)}`);
export const score = (value) => (none(value) ? "–" : value.toFixed(3));
export const percent = (value) => (none(value) ? "–" : `${Math.round(value * 100)}%`);
export function seconds(value) {
  if (none(value)) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} m ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} m`;
}
export const plural = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
