// What every page has: its ticket, and how it tells the server what was done.
const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
const ticket = () => $("meta[name=ticket]").content;
async function deed(name, body = {}) {
  const answer = await fetch(`/do/${name}`, {
    method: "POST", headers: { "Content-Type": "application/json", "X-Ticket": ticket() }, body: JSON.stringify(body),
  });
  return answer.json();
}
const ask = async (path) => (await fetch(path)).json();
const say = (text) => { $("#say").textContent = text; };
