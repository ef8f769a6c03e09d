// Looks at a page from a JavaScript world of its own, which the page's scripts cannot reach.
// Forms and the document let elements in them shadow their properties, so what is asked of them, or of any element,
// goes through the prototypes.
(() => {
  if (globalThis.trellis) return;
  const getter = (prototype, name) => {
    const get = Object.getOwnPropertyDescriptor(prototype, name).get;
    return (node) => get.call(node);
  };
  const prop = (node, name) => Reflect.get(Object.getPrototypeOf(node), name, node);
  const call = (node, name, ...given) => prop(node, name).apply(node, given);
  const page = (name) => prop(document, name);
  const root = () => page("body") || page("documentElement");
  const scroller = () => page("scrollingElement") || page("documentElement");
  const nodeType = getter(Node.prototype, "nodeType");
  const childNodes = getter(Node.prototype, "childNodes");
  const parentOf = getter(Node.prototype, "parentNode");
  const textOf = getter(Node.prototype, "textContent");
  const shadowOf = getter(Element.prototype, "shadowRoot");
  const localName = getter(Element.prototype, "localName");
  const attribute = (element, name) => Element.prototype.getAttribute.call(element, name);
  const has = (element, name) => Element.prototype.hasAttribute.call(element, name);
  const box = (element) => Element.prototype.getBoundingClientRect.call(element);
  const isElement = (node) => nodeType(node) === Node.ELEMENT_NODE;
  const squeeze = (text) => text.replace(/\s+/g, " ").trim();

  const numbers = new WeakMap(); // element -> number of its reference
  const elements = new Map(); // number -> WeakRef of the element
  let next = 1;

  const INPUT_ROLES = {
    button: "button", submit: "button", reset: "button", image: "button", checkbox: "checkbox", radio: "radio",
    range: "slider", number: "spinbutton", search: "searchbox", file: "file", color: "color", date: "date",
    time: "time", "datetime-local": "datetime", month: "month", week: "week",
  };
  const TAG_ROLES = {
    a: (e) => (has(e, "href") ? "link" : ""), article: "article", aside: "complementary", button: "button",
    canvas: "canvas", dialog: "dialog", details: "group", fieldset: "group", figure: "figure", footer: "contentinfo",
    form: "form", h1: "heading", h2: "heading", h3: "heading", h4: "heading", h5: "heading", h6: "heading",
    header: "banner", hr: "separator", iframe: "iframe", frame: "iframe", img: (e) => (attribute(e, "alt") === "" ? "" : "img"),
    input: (e) => INPUT_ROLES[e.type] || "textbox", li: "listitem", main: "main", meter: "meter", nav: "navigation",
    ol: "list", optgroup: "group", option: "option", output: "status", p: "paragraph", progress: "progressbar",
    section: (e) => (has(e, "aria-label") || has(e, "aria-labelledby") ? "region" : ""),
    select: (e) => (e.multiple || e.size > 1 ? "listbox" : "combobox"), summary: "button", svg: (e) => (svgTitle(e) ? "img" : ""),
    table: "table", td: "cell", textarea: "textbox", th: "columnheader", tr: "row", ul: "list", video: "video", audio: "audio",
  };
  const CONTROLS = new Set([
    "button", "checkbox", "radio", "slider", "spinbutton", "searchbox", "file", "color", "date", "time", "datetime", "month",
    "week", "link", "textbox", "combobox", "listbox", "option", "menuitem", "menuitemcheckbox", "menuitemradio", "tab",
    "switch", "treeitem", "gridcell", "canvas", "iframe", "video", "audio", "scrollbar",
  ]);
  const REFERRED = new Set([...CONTROLS, "listitem", "cell", "columnheader", "row", "img", "dialog", "region", "list", "tree"]);
  const NAMED_BY_CONTENT = new Set([
    "button", "link", "heading", "option", "menuitem", "menuitemcheckbox", "menuitemradio", "tab", "switch", "treeitem",
    "checkbox", "radio", "cell", "gridcell", "columnheader", "rowheader", "listitem", "paragraph", "tooltip",
  ]);
  const SKIPPED = new Set(["script", "style", "template", "noscript", "head", "meta", "link", "title", "base", "source", "track"]);
  const HANDY = /^(pointer|grab|grabbing|move|copy|(n|s|e|w|ne|nw|se|sw|ns|ew|col|row)-resize)$/;

  const svgTitle = (svg) => {
    const title = svg.querySelector(":scope > title");
    return title ? squeeze(textOf(title)) : "";
  };

  function roleOf(element) {
    const given = (attribute(element, "role") || "").trim().split(/\s+/)[0];
    if (given === "presentation" || given === "none") return "";
    if (given && given !== "generic") return given.toLowerCase();
    const found = TAG_ROLES[localName(element)];
    return (typeof found === "function" ? found(element) : found) || "";
  }

  // The children that are rendered: a shadow tree in place of its host's own, slots filled.
  function children(element) {
    const shadow = shadowOf(element);
    if (shadow) return childNodes(shadow);
    if (localName(element) === "slot") {
      const filled = element.assignedNodes();
      return filled.length ? filled : childNodes(element);
    }
    return childNodes(element);
  }

  function hidden(element, style) {
    if (style.display === "none" || attribute(element, "aria-hidden") === "true") return true;
    if (has(element, "inert")) return true;
    return false;
  }

  const numberOf = (element) => {
    let number = numbers.get(element);
    if (number === undefined) {
      number = next++;
      numbers.set(element, number);
      elements.set(number, new WeakRef(element));
    }
    return number;
  };

  // With `all`, an element's label comes before its text instead of in its place.
  function visibleText(node, budget = { left: 2000 }, all = false) {
    if (budget.left <= 0) return "";
    if (nodeType(node) === Node.TEXT_NODE) {
      budget.left -= node.data.length;
      return node.data;
    }
    if (!isElement(node) || SKIPPED.has(localName(node))) return "";
    const style = getComputedStyle(node);
    if (hidden(node, style) || style.visibility !== "visible") return "";
    if (localName(node) === "br") return " ";
    const label = has(node, "aria-label") ? attribute(node, "aria-label") : "";
    if (label && !all) return label;
    if (localName(node) === "img") return attribute(node, "alt") || "";
    if (localName(node) === "svg") return svgTitle(node);
    const inner = [...children(node)].map((child) => visibleText(child, budget, all)).join("");
    const value = all && ["input", "textarea"].includes(localName(node)) && node.type !== "password" ? ` ${node.value}` : "";
    return style.display.startsWith("inline") && !label ? inner + value : ` ${label} ${inner}${value} `;
  }

  function nameOf(element) {
    const labelled = (attribute(element, "aria-labelledby") || "").split(/\s+/).filter(Boolean);
    if (labelled.length) {
      const around = call(element, "getRootNode");
      const text = labelled.map((id) => call(around, "querySelector", `#${CSS.escape(id)}`)).filter(Boolean).map((e) => textOf(e)).join(" ");
      if (squeeze(text)) return squeeze(text);
    }
    const label = squeeze(attribute(element, "aria-label") || "");
    if (label) return label;
    const tag = localName(element);
    if (tag === "input" && ["button", "submit", "reset"].includes(element.type)) {
      return squeeze(element.value || { submit: "Submit", reset: "Reset" }[element.type] || "");
    }
    if (["input", "select", "textarea", "meter", "progress", "output", "button"].includes(tag) && element.labels && element.labels.length) {
      const text = squeeze([...element.labels].map((l) => labelText(l, element)).join(" "));
      if (text) return text;
    }
    if (tag === "img" || (tag === "input" && element.type === "image")) return squeeze(attribute(element, "alt") || attribute(element, "title") || "");
    if (tag === "svg") return svgTitle(element);
    if (tag === "optgroup") return squeeze(attribute(element, "label") || "");
    const captions = { fieldset: "legend", table: "caption", figure: "figcaption", details: "summary" };
    if (captions[tag]) {
      const caption = element.querySelector(`:scope > ${captions[tag]}`);
      if (caption) return squeeze(textOf(caption));
    }
    return squeeze(attribute(element, "title") || attribute(element, "placeholder") || "");
  }

  const labelText = (label, control) =>
    [...childNodes(label)].filter((n) => n !== control).map((n) => (isElement(n) && contains(n, control) && n !== control ? labelText(n, control) : visibleText(n))).join("");

  function valueOf(element, role) {
    const tag = localName(element);
    if (tag === "input") {
      if (["button", "submit", "reset", "image", "checkbox", "radio", "hidden"].includes(element.type)) return null;
      if (element.type === "password") return "•".repeat(element.value.length);
      if (element.type === "file") return [...element.files].map((f) => f.name).join(", ");
      return element.value;
    }
    if (tag === "textarea") return element.value;
    if (tag === "select") return [...element.selectedOptions].map((o) => squeeze(o.label)).join(", ");
    if (tag === "meter" || tag === "progress") return String(element.value);
    const now = attribute(element, "aria-valuetext") || attribute(element, "aria-valuenow");
    if (now) return now;
    if (role === "textbox" || role === "searchbox") return prop(element, "innerText");
    return null;
  }

  function statesOf(element, role, focused) {
    const states = [];
    const tag = localName(element);
    const aria = (name) => attribute(element, `aria-${name}`);
    if (role === "heading") states.push(`level ${aria("level") || (/^h[1-6]$/.test(tag) ? tag[1] : "2")}`);
    if (tag === "input" && (element.type === "checkbox" || element.type === "radio")) {
      states.push(element.indeterminate ? "mixed" : element.checked ? "checked" : "not checked");
    } else if (aria("checked")) states.push({ true: "checked", mixed: "mixed" }[aria("checked")] || "not checked");
    let off = aria("disabled") === "true";
    try { off = off || Element.prototype.matches.call(element, ":disabled"); } catch (_) {}
    if (off) states.push("disabled");
    if (tag === "option" ? element.selected : aria("selected") === "true") states.push("selected");
    if (aria("pressed")) states.push(aria("pressed") === "true" ? "pressed" : "not pressed");
    if (aria("current") && aria("current") !== "false") states.push("current");
    if (aria("expanded")) states.push(aria("expanded") === "true" ? "expanded" : "collapsed");
    if (tag === "summary" && parentOf(element) && localName(parentOf(element)) === "details") states.push(parentOf(element).open ? "expanded" : "collapsed");
    if (["input", "select", "textarea"].includes(tag)) {
      if (element.required) states.push("required");
      if (element.readOnly) states.push("read-only");
      if (element.multiple) states.push("several allowed");
    }
    if (aria("invalid") === "true" || (["input", "select", "textarea"].includes(tag) && element.willValidate && element.value && !element.validity.valid)) states.push("invalid");
    if (role === "slider" || role === "spinbutton") {
      const low = prop(element, "min") || aria("valuemin"), high = prop(element, "max") || aria("valuemax");
      if (low || high) states.push(`from ${low || "?"} to ${high || "?"}`);
    }
    if (element === focused) states.push("focused");
    return states;
  }

  function direction(rect, view) {
    if (rect.bottom <= view.top) return "↑";
    if (rect.top >= view.bottom) return "↓";
    if (rect.right <= view.left) return "←";
    if (rect.left >= view.right) return "→";
    return "";
  }

  const narrowed = (view, rect) => ({
    top: Math.max(view.top, rect.top), bottom: Math.min(view.bottom, rect.bottom),
    left: Math.max(view.left, rect.left), right: Math.min(view.right, rect.right),
  });

  function deepFocus() {
    let focused = page("activeElement");
    while (focused && shadowOf(focused) && shadowOf(focused).activeElement) focused = shadowOf(focused).activeElement;
    return focused === page("body") ? null : focused;
  }

  class Walk {
    constructor(limits) {
      this.nodes = limits.nodes;
      this.until = performance.now() + limits.ms;
      this.visited = 0;
      this.left = 0; // elements that were not looked at
      this.focused = deepFocus();
    }

    list(nodes, view, inherited) {
      const found = [];
      for (const node of nodes) {
        if (this.nodes <= 0 || performance.now() > this.until) { this.left += 1; continue; }
        this.node(node, view, inherited, found);
      }
      return found;
    }

    node(node, view, inherited, out) {
      if (nodeType(node) === Node.TEXT_NODE) {
        const text = squeeze(node.data);
        if (!text || !inherited.shown) return;
        const last = out[out.length - 1];
        if (last && last.text !== undefined) last.text += ` ${text}`;
        else { out.push({ text, off: inherited.off }); this.nodes -= 1; }
        return;
      }
      if (!isElement(node)) return;
      const tag = localName(node);
      if (SKIPPED.has(tag)) return;
      this.visited += 1;
      const style = getComputedStyle(node);
      if (hidden(node, style)) return;
      const shown = style.visibility === "visible";
      const rect = box(node);
      const contents = style.display === "contents" || tag === "slot";
      const off = contents || !(rect.width || rect.height) ? inherited.off : direction(rect, view);
      // In a huge page, what is far from the screen is not walked through.
      if (this.visited > 4000 && off && !contents && node !== this.focused) { this.left += 1; return; }
      const role = roleOf(node);
      const handy = shown && !CONTROLS.has(role) && this.handy(node, style, inherited);
      const clips = /auto|scroll|hidden/.test(style.overflowX + style.overflowY) && node !== page("body") && node !== page("documentElement");
      const scrolls = clips && /auto|scroll/.test(style.overflowY) && prop(node, "scrollHeight") > prop(node, "clientHeight") + 1;
      const editable = prop(node, "isContentEditable");
      const below = { shown, off, cursor: style.cursor, editable: inherited.editable || editable };
      const inner = clips ? narrowed(view, rect) : view;
      const opaque = tag === "select" || tag === "textarea" || tag === "canvas" || tag === "iframe" || tag === "frame" || tag === "video" || tag === "audio" || tag === "input" || (tag === "svg" && role);
      const editor = editable && !inherited.editable;
      if (!role && !handy && !scrolls && !editor) {
        const inside = opaque ? [] : this.list(children(node), inner, below);
        // The words of a label are its control's name.
        out.push(...(tag === "label" && node.control ? inside.filter((child) => child.text === undefined) : inside));
        return;
      }
      if (!shown) { out.push(...this.list(children(node), inner, below)); return; }
      const kind = role || (editor ? "textbox" : handy ? "clickable" : "scrollable");
      const entry = { role: kind, off };
      this.nodes -= 1;
      if (REFERRED.has(kind) || handy || scrolls || editor || CONTROLS.has(kind)) entry.ref = numberOf(node);
      const name = nameOf(node);
      if (name) entry.name = name;
      const value = editor ? prop(node, "innerText") : valueOf(node, kind);
      if (value !== null && value !== undefined && value !== "") entry.value = value;
      const states = statesOf(node, kind, this.focused);
      if (scrolls) states.push("scrollable");
      if (prop(node, "draggable") && tag !== "a" && tag !== "img") states.push("draggable");
      if (states.length) entry.states = states;
      if (tag === "select") entry.children = this.options(node);
      else if (tag === "iframe" || tag === "frame") entry.frame = true;
      else if (!opaque && !editor && kind !== "textbox") entry.children = this.list(children(node), inner, below);
      if (entry.children && NAMED_BY_CONTENT.has(kind) || kind === "clickable") {
        const texts = entry.children || [];
        if (texts.length && texts.every((child) => child.text !== undefined)) {
          const text = texts.map((child) => child.text).join(" ");
          if (!entry.name) entry.name = text;
          if (entry.name === text || CONTROLS.has(kind)) delete entry.children;
        } else if (!entry.name && CONTROLS.has(kind)) {
          entry.name = squeeze(visibleText(node)).slice(0, 300);
          entry.children = texts.filter((child) => child.ref || child.role);
        }
      }
      if (entry.children && !entry.children.length) delete entry.children;
      const empty = !entry.name && !entry.children && !entry.ref && entry.value === undefined;
      if (!(empty && ["paragraph", "list", "listitem", "group", "form", "figure", "status", "cell", "row", "banner", "contentinfo", "main", "navigation", "article", "complementary"].includes(kind))) out.push(entry);
    }

    handy(node, style, inherited) {
      if (has(node, "onclick") || attribute(node, "draggable") === "true") return true;
      const tab = attribute(node, "tabindex");
      if (tab !== null && Number(tab) >= 0) return true;
      if (localName(node) === "label") return false;
      return HANDY.test(style.cursor) && style.cursor !== inherited.cursor;
    }

    options(select) {
      const most = 40;
      const shown = [...select.options].slice(0, most).map((o) => ({
        role: "option", name: squeeze(o.label), off: "",
        states: [...(o.selected ? ["selected"] : []), ...(o.disabled ? ["disabled"] : [])],
      }));
      this.nodes -= shown.length;
      if (select.options.length > most) shown.push({ text: `(${select.options.length - most} more options)`, own: true, off: "" });
      return shown;
    }
  }

  const screen = () => ({ top: 0, left: 0, bottom: innerHeight, right: innerWidth });

  function snapshot(from, limits, only) {
    next = Math.max(next, from);
    const walk = new Walk(limits);
    const top = only ? element(only) : root();
    const start = { shown: true, off: "", cursor: "auto", editable: false };
    const nodes = top ? walk.list([top], screen(), start) : [];
    const whole = scroller();
    return {
      nodes, next, left: walk.left,
      above: Math.round(whole ? whole.scrollTop : 0),
      below: Math.round(whole ? Math.max(0, whole.scrollHeight - whole.scrollTop - innerHeight) : 0),
    };
  }

  function element(number) {
    const held = elements.get(number);
    const found = held && held.deref();
    return found && prop(found, "isConnected") ? found : null;
  }

  // --- where to click ---

  const contains = (outer, inner) => {
    for (let node = inner; node; node = parentOf(node) || prop(node, "host")) if (node === outer) return true;
    return false;
  };

  function topAt(x, y) {
    let found = call(document, "elementFromPoint", x, y);
    while (found && shadowOf(found)) {
      const deeper = shadowOf(found).elementFromPoint(x, y);
      if (!deeper || deeper === found) break;
      found = deeper;
    }
    return found;
  }

  function describe(found) {
    if (!found) return "nothing";
    const role = roleOf(found) || localName(found);
    const name = nameOf(found) || squeeze(visibleText(found)).slice(0, 60);
    const known = numbers.get(found);
    return { role, name, ref: known || null, id: attribute(found, "id") || "" };
  }

  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  // A point of the element that is on the screen and not covered; waits a little for what moves or is not ready.
  async function point(target, wait, enabled) {
    const until = performance.now() + wait;
    let problem = null, before = null;
    for (let looks = 1; ; looks += 1) {
      if (!prop(target, "isConnected")) return { problem: "gone" };
      const style = getComputedStyle(target);
      let aim = target;
      let rect = box(target);
      const label = (prop(target, "labels") || [])[0];
      const tiny = rect.width < 2 || rect.height < 2 || style.opacity === "0" || style.visibility !== "visible";
      if (tiny && label && box(label).width) { aim = label; rect = box(label); }
      else if (style.display === "contents") { const inner = prop(target, "firstElementChild"); if (inner) { aim = inner; rect = box(inner); } }
      const off = Element.prototype.matches.call(target, ":disabled") || attribute(target, "aria-disabled") === "true";
      if (!rect.width || !rect.height || getComputedStyle(aim).visibility !== "visible") problem = { problem: "invisible" };
      else if (enabled && off) problem = { problem: "disabled" };
      else {
        call(aim, "scrollIntoViewIfNeeded", true);
        rect = box(aim);
        const still = before && ["left", "top", "width", "height"].every((side) => Math.abs(before[side] - rect[side]) < 1);
        before = rect;
        if (still) {
          const parts = [...call(aim, "getClientRects")].filter((r) => r.width > 0 && r.height > 0);
          let cover = null;
          for (const part of [rect, ...parts.slice(0, 4)]) {
            const left = Math.max(part.left, 0), right = Math.min(part.right, innerWidth);
            const top = Math.max(part.top, 0), bottom = Math.min(part.bottom, innerHeight);
            if (right <= left || bottom <= top) continue;
            for (const [fx, fy] of [[0.5, 0.5], [0.2, 0.5], [0.8, 0.5], [0.5, 0.2], [0.5, 0.8]]) {
              const x = left + (right - left) * fx, y = top + (bottom - top) * fy;
              const hit = topAt(x, y);
              if (hit && (contains(aim, hit) || (label && contains(label, hit)))) return { x, y };
              cover = cover || hit;
            }
          }
          problem = cover ? { problem: "covered", by: describe(cover) } : { problem: "outside" };
        } else problem = problem || { problem: "moving" };
      }
      if (performance.now() > until && looks >= 5) return problem; // a busy machine may be late
      await pause(40);
    }
  }

  // A point in a frame as seen from its parent: is the frame itself on top there?
  function throughFrame(frame, x, y) {
    if (!frame.isConnected) return { problem: "gone" };
    let rect = box(frame);
    const style = getComputedStyle(frame);
    const dx = frame.clientLeft + parseFloat(style.paddingLeft), dy = frame.clientTop + parseFloat(style.paddingTop);
    const inside = () => { rect = box(frame); const px = rect.left + dx + x, py = rect.top + dy + y; return px >= 0 && py >= 0 && px < innerWidth && py < innerHeight; };
    if (!inside()) window.scrollBy(0, box(frame).top + dy + y - innerHeight / 2);
    inside();
    const px = rect.left + dx + x, py = rect.top + dy + y;
    const hit = topAt(px, py);
    return hit === frame ? { x: px, y: py } : { problem: "covered", by: describe(hit) };
  }

  // --- changing what has no keys of its own ---

  const announce = (target) => {
    target.dispatchEvent(new Event("input", { bubbles: true, composed: true }));
    target.dispatchEvent(new Event("change", { bubbles: true }));
  };

  function kindOf(target) {
    const tag = localName(target);
    if (tag === "select") return "select";
    if (tag === "option") return "option";
    if (tag === "textarea") return target.readOnly ? "read-only" : "text";
    if (tag === "input") {
      if (target.readOnly) return "read-only";
      if (["date", "time", "datetime-local", "month", "week", "color", "range"].includes(target.type)) return "set";
      if (["checkbox", "radio", "button", "submit", "reset", "image", "hidden"].includes(target.type)) return "none";
      return target.type === "file" ? "file" : "text";
    }
    if (prop(target, "isContentEditable")) return "editable";
    return has(target, "tabindex") ? "keys" : "none";
  }

  function setValue(target, text) {
    const before = target.value;
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(target, text);
    const given = target.type === "color" ? text.toLowerCase() : text;
    if (target.value !== given && !(target.type === "range" && Number(target.value) === Number(text))) {
      const became = target.value;
      Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(target, before);
      return { refused: target.type, became };
    }
    target.focus();
    announce(target);
    return {};
  }

  function choose(select, wanted) {
    const options = [...select.options];
    const found = [];
    for (const text of wanted) {
      const match = options.find((o) => o.value === text) || options.find((o) => squeeze(o.label) === squeeze(text));
      if (!match) return { missing: text, options: options.slice(0, 40).map((o) => squeeze(o.label)), count: options.length };
      if (match.disabled || (parentOf(match) && localName(parentOf(match)) === "optgroup" && parentOf(match).disabled)) return { disabled: squeeze(match.label) };
      found.push(match);
    }
    if (!select.multiple && found.length > 1) return { single: true };
    select.focus();
    if (select.multiple) for (const option of options) option.selected = found.includes(option);
    else select.selectedIndex = options.indexOf(found[0]);
    announce(select);
    return { chosen: found.map((o) => squeeze(o.label)) };
  }

  const focus = (target) => call(target, "focus");

  function focusEnd(target) {
    focus(target);
    const editable = prop(target, "isContentEditable");
    if (editable) {
      const range = new Range();
      range.selectNodeContents(target);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    } else if (prop(target, "select")) call(target, "select");
    return deepFocus() === target || (editable && contains(target, deepFocus()));
  }

  function scroll(target, dx, dy) {
    const whole = scroller();
    const turns = (node) => /auto|scroll/.test(getComputedStyle(node).overflowY + getComputedStyle(node).overflowX)
      && (prop(node, "scrollHeight") > prop(node, "clientHeight") || prop(node, "scrollWidth") > prop(node, "clientWidth"));
    let at = target;
    while (at && !(isElement(at) && turns(at))) at = parentOf(at) || prop(at, "host");
    at = at || whole;
    const height = at === whole ? innerHeight : prop(at, "clientHeight"), width = at === whole ? innerWidth : prop(at, "clientWidth");
    const place = () => `${prop(at, "scrollLeft")} ${prop(at, "scrollTop")}`;
    const before = place();
    call(at, "scrollBy", { left: dx * width * 0.85, top: dy * height * 0.85, behavior: "instant" });
    return { moved: place() !== before, page: at === whole };
  }

  const findText = (text) => squeeze(visibleText(root(), { left: 2e6 }, true)).toLowerCase().includes(squeeze(text).toLowerCase());

  // --- marks for screenshots ---

  let layer = null;
  function boxes(limit) {
    const view = screen(), found = [];
    for (const [number, held] of elements) {
      const target = held.deref();
      if (!target || !prop(target, "isConnected")) continue;
      const role = roleOf(target);
      if (["listitem", "row", "cell", "columnheader", "list", "region", "dialog", "tree"].includes(role) && !(getComputedStyle(target).cursor === "pointer" || prop(target, "draggable"))) continue;
      const rect = box(target);
      if (!rect.width || !rect.height || direction(rect, view) || getComputedStyle(target).visibility !== "visible") continue;
      const hit = topAt(Math.min(Math.max(rect.left + rect.width / 2, 0), innerWidth - 1), Math.min(Math.max(rect.top + rect.height / 2, 0), innerHeight - 1));
      if (hit && !contains(target, hit) && !contains(hit, target)) continue;
      found.push({ number, x: rect.left, y: rect.top, w: rect.width, h: rect.height });
      if (found.length >= limit) break;
    }
    return found;
  }

  function mark(marks) {
    unmark();
    layer = call(document, "createElement", "div");
    const shadow = layer.attachShadow({ mode: "closed" });
    layer.style.cssText = "all:initial;position:fixed;inset:0;width:100%;height:100%;border:0;margin:0;padding:0;background:transparent;pointer-events:none;z-index:2147483647;overflow:visible";
    layer.setAttribute("aria-hidden", "true");
    const colours = ["#d01f3c", "#1560bd", "#0a7f3f", "#8a2be2", "#b35900"];
    for (const m of marks) {
      const colour = colours[m.number % colours.length];
      const frame = call(document, "createElement", "div");
      frame.style.cssText = `position:absolute;left:${m.x}px;top:${m.y}px;width:${m.w}px;height:${m.h}px;box-sizing:border-box;border:2px solid ${colour}`;
      const tag = call(document, "createElement", "div");
      tag.textContent = `e${m.number}`;
      tag.style.cssText = `position:absolute;left:${Math.max(0, m.x)}px;top:${Math.max(0, m.y - 13)}px;font:bold 11px/13px sans-serif;color:#fff;background:${colour};padding:0 2px`;
      shadow.append(frame, tag);
    }
    page("documentElement").append(layer);
    if (layer.showPopover) { layer.popover = "manual"; try { layer.showPopover(); } catch (_) {} }
  }

  function unmark() {
    if (layer) layer.remove();
    layer = null;
  }

  globalThis.trellis = {
    snapshot, element, point, throughFrame, kindOf, setValue, choose, focusEnd, scroll, findText, boxes, mark, unmark, describe, focus,
  };
})()
