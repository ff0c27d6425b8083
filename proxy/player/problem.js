// What went wrong, as it stands on the page: in the words of the page, and in those of the API where
// that knows the root cause.

import { open } from "./feed.js";
import { byId, element, marked } from "./panel.js";
import { words } from "./words.js";

const CAUSE_TRIES = 8; // the server needs a moment to find out why a stream broke
const CAUSE_EVERY_MS = 150;
const SKIPS = /`on_(gap|splice)=skip`/; // advice of the API that the page has a tick for
const HERE = " Here that is the tick at “Leave out what cannot be had”.";

function part(name) {
  return document.querySelector(`#problem [data-of="${name}"]`);
}

/** Show a problem; `at`, the time at which it broke off, and `ended`, the state of its stream. */
export function showProblem(problem, at, ended = null) {
  const cause = ended?.root_cause;
  const code = ended?.outcome ?? problem.code;
  const [title, advice] = words(problem.code, problem.detail);
  const [why, remedy] = code === problem.code ? ["", ""] : words(code);
  part("title").replaceChildren(...marked(at ? title.replace(/\.$/, `${at}.`) : title));
  part("summary").replaceChildren(...marked(cause?.summary || why));
  part("detail").replaceChildren(...marked(problem.detail === title ? "" : problem.detail));
  if (problem.file) part("detail").append(" ", linked(problem.file));
  const actions = cause?.actions?.length ? cause.actions : [remedy || advice];
  const told = actions.filter(Boolean).map((one) => (SKIPS.test(one) ? one + HERE : one));
  part("actions").replaceChildren(...told.map((one) => element("li", one)));
  for (const item of part("actions").children) item.replaceChildren(...marked(item.textContent));
  const evidence = cause?.evidence ?? [];
  part("evidence").replaceChildren(...evidence.map(showEvidence));
  part("evidence").parentElement.hidden = evidence.length === 0;
  const wait = problem.wait_s ? `again in ${problem.wait_s} s` : "";
  part("number").textContent = [wait, code, problem.stream].filter(Boolean).join(" · ");
  byId("again").textContent = at ? "Go on from here" : "Try again";
  byId("problem").hidden = false;
}

function linked(address) {
  const link = element("a", address);
  if (/^https?:/.test(address)) link.href = address;
  return link;
}

function showEvidence({ time, event, detail }) {
  const item = element("li");
  const clockTime = String(time).replace(/^.*T|Z$/g, ""); // the day is known to whoever was there
  item.append(element("time", clockTime), " ", element("b", event), " ", detail ?? "");
  return item;
}

/** Return the state of a stream that has broken off; null: this server does not tell. */
export async function outcome(id, page) {
  for (let n = 0; n < CAUSE_TRIES; n++) {
    try {
      const state = await (await open(new URL(`streams/${id}`, page))).json();
      if (state.phase === "ended") return state;
    } catch {
      return null;
    }
    await new Promise((resolve) => setTimeout(resolve, CAUSE_EVERY_MS));
  }
  return null;
}
