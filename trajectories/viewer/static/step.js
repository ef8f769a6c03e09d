// One step: what was sent first here, the reply, the calls and what came of them.

import { count, h, plural, seconds, shown, usd } from "./dom.js";
import { imageOf } from "./source.js";
import { ansi, block, copier, difference, isClipped, prose, python } from "./text.js";

const COMMANDS = ["command", "cmd", "input"];
const CODES = ["code", "script"];
const PYTHON = /python|jupyter/i;

/** What is open in which step, so that it is so when the step comes into sight again. */
const opened = new Map();

function folding(key, title, contents, { open = false, kind = "" } = {}) {
  const box = h("details", { class: `fold ${kind}`, open: opened.get(key) ?? open }, h("summary", {}, title));
  const fillIn = () => box.open && box.children.length === 1 && box.append(contents());
  box.addEventListener("toggle", () => {
    opened.set(key, box.open);
    fillIn();
  });
  fillIn();
  return box;
}

const lengthOf = (text) => (isClipped(text) ? text.chars : text.length);
const beginning = (text, length = 110) => {
  const plain = (isClipped(text) ? text.clipped : text).trim();
  const line = plain.split("\n", 1)[0];
  return line.length > length || line.length < plain.length ? `${line.slice(0, length)} …` : line;
};

function part(each, episode, where, key, repeats) {
  switch (each.kind) {
    case "text":
      return lengthOf(each.text) ? prose(each.text, { where, repeats }) : null;
    case "reasoning":
      return folding(key, [h("b", {}, "reasoning "), h("span", { class: "soft" }, lengthOf(each.text) ? beginning(each.text) : "(kept by the provider)")],
        () => block(each.text, { kind: "prose thinking", where }), { kind: "reasoning" });
    case "image":
      return h("img", { class: "picture", src: imageOf(episode, each.blob), alt: "image", loading: "lazy" });
    case "tool_result":
      return h("div", {}, each.parts.map((inner, i) => (inner.kind === "text" ? block(inner.text, { render: ansi, where }) : part(inner, episode, where, `${key}/${i}`))));
    case "tool_call":
      return null; // shown with what came of it
    default:
      return h("p", { class: "soft" }, `${each.kind}${each.media_type ? ` (${each.media_type})` : ""}`);
  }
}

function message(said, episode, where, key, { open = false } = {}) {
  const texts = said.parts.map((each) => (each.kind === "text" ? each.text : each.kind === "tool_result" ? each.parts.map((p) => p.text ?? "").join("\n") : `[${each.kind}]`));
  const first = texts.find((text) => lengthOf(text)) ?? "";
  return folding(key, [h("span", { class: `role ${said.role}` }, said.role), " ", h("span", { class: "soft" }, beginning(first))],
    () => h("div", { class: "inside" }, said.parts.map((each, i) => part(each, episode, where, `${key}/${i}`))), { open, kind: "message" });
}

const short = (value) => (typeof value === "string" ? value.length < 200 && !value.includes("\n") : value === null || typeof value !== "object");

function argumentsOf(call, where) {
  const left = { ...call.arguments };
  const out = [];
  const take = (names, render) => {
    for (const name of names) {
      if (typeof left[name] === "string" || isClipped(left[name])) {
        out.push(render(left[name]));
        delete left[name];
      }
    }
  };
  if (!("path" in left)) take(COMMANDS, (text) => block(text, { kind: "command", where }));
  take(CODES, (text) => block(text, { render: PYTHON.test(call.name) ? python : shown, where }));
  take(["patch"], (text) => (isClipped(text) ? block(text, { where }) : difference(text)));
  if (typeof left.old_str === "string" && typeof left.new_str === "string") {
    const lines = (text, mark) => (text ? text.replace(/\n$/, "").split("\n").map((line) => mark + line) : []);
    out.push(difference([...lines(left.old_str, "-"), ...lines(left.new_str, "+")].join("\n")));
    delete left.old_str;
    delete left.new_str;
  }
  const rest = Object.entries(left);
  if (rest.length) {
    out.unshift(h("dl", { class: "arguments" }, rest.map(([name, value]) => [
      h("dt", {}, name),
      h("dd", {}, short(value) ? String(value) : block(value, { where })),
    ])));
  }
  if (call.malformed) out.push(h("p", { class: "bad" }, "not a JSON object:"), block(call.malformed, { where }));
  return out;
}

const codeOf = (result) => result?.data?.exit_code;

const SHORT_DIFF = 40;

/** `told`: the call says itself what it changes. */
function change(diff, key, where, told) {
  const title = [h("span", { class: `change ${diff.kind}` }, diff.kind), " ", h("code", {}, diff.path)];
  if (!diff.diff) return h("p", { class: "file" }, title, " ", h("span", { class: "soft" }, diff.said));
  return folding(key, title, () => (typeof diff.diff === "string" ? difference(diff.diff) : block(diff.diff, { where })),
    { kind: "file", open: !told && typeof diff.diff === "string" && diff.diff.split("\n").length <= SHORT_DIFF });
}

export function act(each, episode, where, key) {
  const { call, result } = each;
  const code = codeOf(result);
  const took = each.ended === null ? null : each.ended - each.began;
  return h("section", { class: `act${result?.is_error ? " failed" : ""}` },
    h("header", {},
      h("b", { class: "tool" }, call.name),
      code !== undefined && code !== null ? h("span", { class: code === 0 ? "pill" : "pill bad" }, `exit ${code}`) : null,
      result?.is_error ? h("span", { class: "pill bad" }, "error") : null,
      result === null ? h("span", { class: "pill warn" }, "cut off") : null,
      each.handed_in !== null && each.handed_in !== undefined ? h("span", { class: "pill good" }, "handed in") : null,
      h("span", { class: "soft" }, took === null ? "" : seconds(took))),
    argumentsOf(call, where),
    result ? h("div", { class: "result" }, result.parts.map((inner, i) =>
      inner.kind === "text" ? (beginning(inner.text) ? block(inner.text, { render: ansi, kind: "output", where }) : h("p", { class: "soft" }, "(no output)"))
        : part(inner, episode, where, `${key}/r${i}`))) : null,
    each.changes.map((diff, i) => change(diff, `${key}/f${i}`, where, typeof call.arguments.new_str === "string")),
    each.more_changes ? h("p", { class: "soft" }, `and ${plural(each.more_changes, "more file")}`) : null);
}

const usageOf = (usage) => {
  const read = ["input", "cache_read", "cache_write", "cache_write_1h", "audio_input", "image_input"].reduce((sum, name) => sum + (usage[name] ?? 0), 0);
  return `${count(read)} → ${count((usage.output ?? 0) + (usage.audio_output ?? 0))} tokens`;
};

const bare = (code) => code.replace(/\s+/g, "");

/** The element of a step. `actions`: what its buttons do. */
export function stepCard(step, episode, actions) {
  const where = { e: episode, n: step.number };
  const key = `${step.branch}:${step.kind}:${step.turn}`;
  const reply = step.reply;
  const told = new Set(step.acts.map((each) => each.call.id));
  const undone = (reply?.parts ?? []).filter((each) => each.kind === "tool_call" && !told.has(each.id));
  const given = step.given.filter((said) => said.role !== "assistant" && said.role !== "tool");
  const called = new Set(step.acts.flatMap((each) => Object.values(each.call.arguments)).filter((value) => typeof value === "string").map(bare));
  const repeats = (code) => called.has(bare(code));
  return h("article", { class: "step", tabIndex: -1, "data-step": step.number, "aria-label": `step ${step.number}` },
    h("header", {},
      h("a", { class: "number", href: `#step=${step.number}`, title: "link to this step" }, step.number ? `#${step.number}` : "judge"),
      h("span", { class: "branch" }, step.branch, step.turn > 1 || step.branch === "main" ? ` · ${step.turn}` : ""),
      h("span", { class: "soft" }, step.model + (step.role === "main" ? "" : ` as ${step.role}`)),
      step.kind === "compact" ? h("span", { class: "pill" }, "compaction") : null,
      reply && reply.stop_reason !== "stop" && reply.stop_reason !== "tool_calls" ? h("span", { class: "pill warn" }, reply.stop_reason) : null,
      reply?.cached ? h("span", { class: "pill", title: "nobody paid for it again" }, "kept") : null,
      step.cut_off ? h("span", { class: "pill warn" }, actions.live() ? "under way" : "cut off") : null,
      h("span", { class: "spacer" }),
      reply ? h("span", { class: "soft numbers" }, usageOf(reply.usage), " · ", usd(reply.cost_usd), " · ", seconds(reply.latency_s)) : null,
      h("span", { class: "tools" },
        step.number ? h("button", { onclick: () => actions.conversation(step), title: "everything that this call sent" }, "sent") : null,
        step.number ? h("button", { onclick: () => actions.raw(step), title: "the events in the log" }, "raw") : null)),
    given.map((said, i) => message(said, episode, where, `${key}/g${i}`, { open: said.parts.some((each) => each.kind === "image") })),
    h("div", { class: "reply" },
      reply ? reply.parts.map((each, i) => part(each, episode, where, `${key}/p${i}`, repeats)) : null,
      step.overflow ? h("p", { class: "bad" }, step.overflow) : null,
      (reply?.dropped ?? []).map((line) => h("p", { class: "soft" }, `left behind: ${line}`))),
    step.acts.map((each, i) => act(each, episode, where, `${key}/a${i}`)),
    undone.map((call) => h("section", { class: "act" }, h("header", {}, h("b", { class: "tool" }, call.name), h("span", { class: "pill" }, "not made")), argumentsOf(call, where))),
    step.notes.filter((note) => note.kind !== "node").map((note, i) => folding(`${key}/n${i}`, [h("span", { class: "pill" }, note.kind)],
      () => block(JSON.stringify(note.data, null, 1), { where }), { kind: "note" })));
}

/** A conversation, message by message. */
export const conversation = ({ before, messages }, episode, n) =>
  h("div", { class: "conversation" }, before ? h("p", { class: "soft" }, `${plural(before, "message")} before these`) : null, messages.map((said, i) => message(said, episode, { e: episode, n }, `sent/${n}/${i}`, { open: messages.length < 6 })));

export const raw = (events) => {
  const text = events.map((event) => JSON.stringify(event, null, 1)).join("\n\n");
  return h("div", { class: "block" }, h("pre", { class: "code" }, text), copier(() => text));
};
