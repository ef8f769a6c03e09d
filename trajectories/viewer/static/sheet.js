// What opens over a page: one thing at a time, until Esc.

import { h, replace } from "./dom.js";

const dialog = h("dialog", { class: "sheet" });
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
document.body.append(dialog);

export const isOpen = () => dialog.open;
export const close = () => dialog.close();

/** `contents` makes what is shown; until it is there, and where it fails, that is said. */
export async function sheet(title, contents) {
  const body = h("div", {}, "…");
  replace(dialog, h("header", {}, h("h2", {}, title), h("button", { onclick: close }, "close")), body);
  if (!dialog.open) dialog.showModal();
  try {
    replace(body, await contents());
  } catch (error) {
    replace(body, h("p", { class: "bad" }, error.message));
  }
}
