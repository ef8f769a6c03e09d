// Where documents come from: the server, or what is embedded in a page that stands alone.

const holder = document.getElementById("embedded");
const embedded = holder ? JSON.parse(holder.textContent) : null;
const kept = new Map();

/** Does the page stand alone? Then nothing can be asked for that is not in it. */
export const alone = embedded !== null;

const addressOf = (path, query) => {
  const names = Object.keys(query).sort();
  return names.length ? `${path}?${names.map((name) => `${name}=${query[name]}`).join("&")}` : path;
};

/** A document. Throws an Error with one line that says why it is not to be had. */
export async function get(path, query = {}) {
  if (alone) {
    const found = embedded.answers[addressOf(path, query)];
    if (found === undefined) throw new Error("this is not kept in a page that stands alone; open it with trellis view");
    return found;
  }
  const answer = await fetch(`api/${path}?${new URLSearchParams(query)}`);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

/** The same, asked for once. */
export function getOnce(path, query = {}) {
  const address = addressOf(path, query);
  if (!kept.has(address)) {
    const asked = get(path, query);
    kept.set(address, asked);
    asked.catch(() => kept.delete(address));
  }
  return kept.get(address);
}

/** What was kept may be another now. */
export const forget = (path, query) => kept.delete(addressOf(path, query));

export const imageOf = (episode, name) =>
  alone ? (embedded.images[name] ?? "") : `blob?${new URLSearchParams({ e: episode, name })}`;
