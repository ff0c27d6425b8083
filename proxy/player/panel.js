// What is put into the page, always as text: elements, lists of pairs, choices, and figures in the
// words that people read.

export const byId = (id) => document.getElementById(id);

export function element(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

/** Split a text at its backticks: what stands between them is code. */
export function marked(text) {
  return text.split("`").map((piece, n) => (n % 2 ? element("code", piece) : piece));
}

export function pair(name, text) {
  return [element("dt", name), element("dd", text)];
}

function group(name, text) {
  const made = element("div");
  made.append(...pair(name, text));
  return made;
}

export function clock(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.floor(Math.max(0, seconds) + 0.05);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`;
}

export const megabits = (bits) => (bits < 1e6 ? `${Math.round(bits / 1e3)} kbit/s` : `${(bits / 1e6).toFixed(1)} Mbit/s`);

/** Put pairs into a list, touching only what has changed: readers and eyes stay where they are. */
export function setPairs(list, rows) {
  const names = rows.map(([name]) => name).join();
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...rows.map(([name, text]) => group(name, text)));
  }
  rows.forEach(([, text], n) => {
    const value = list.children[n].lastElementChild;
    if (value.textContent !== text) value.textContent = text;
  });
}

/** Offer `[[word, text]]` to choose from; a word that is not among them is offered too. */
export function fill(select, options, chosen) {
  if (!options.some(([word]) => word === chosen)) options.push([chosen, chosen]);
  select.replaceChildren(...options.map(([word, text]) => new Option(text, word)));
  select.value = chosen;
}

/** Return a line to type elsewhere, with a button that copies it. */
export function line(kind, text) {
  const item = element("li");
  const code = element("code", text);
  code.tabIndex = 0; // it scrolls
  code.setAttribute("role", "group");
  code.setAttribute("aria-label", `${kind} line`);
  const button = element("button", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy the ${kind} line`);
  button.addEventListener("click", () => copy(text, code, button));
  item.append(element("span", kind), code, button);
  return item;
}

async function copy(text, code, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren(code); // no clipboard without TLS: at least it is marked
    if (!document.execCommand("copy")) return;
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
