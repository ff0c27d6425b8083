// The player page: an address in; a picture, what is behind it, and ways to take it along out.
//
// Every text that comes from elsewhere (playlists, errors, addresses) is put in as text.  Addresses
// of the API are relative to the page.  The address to play is kept in the fragment of the page's own
// address (`#url=...`), which is never sent to anybody.

import { ask, audios, fileName, inspectable, lines, qualities, readAddress } from "./address.js";
import { download } from "./download.js";
import { createFeed, open, Problem } from "./feed.js";
import { words } from "./words.js";

const STEP_S = 5; // of the arrow keys
const CAUSE_TRIES = 8; // the server needs a moment to find out why a stream broke
const CAUSE_EVERY_MS = 150;

const byId = (id) => document.getElementById(id);
const video = byId("video");
const position = byId("position");
const page = document.baseURI.replace(/[?#].*/s, "");

let source = null; // what is asked for: see `readAddress`
let choice = { quality: "", audio: "" }; // words of the query; empty: the default
let report = null; // what /inspect says of it
let feed = null;
let failure = null; // the Problem that is shown
let asked_ms = 0; // when playing was asked for, until the first picture is there
let first_ms = 0; // how long that took
let told = null; // what the API has told last of the running stream
let unwatch = () => {};
let held = false; // whether the time bar is being dragged: then it does not follow the video

// -- what to play ----------------------------------------------------------------------------------

function streamAddress(start_s = null) {
  return ask("stream", source, { ...choice, start: start_s?.toFixed(3) }, page);
}

/** Take what is in the field; returns whether that can be asked for. */
function take() {
  const field = byId("address");
  let read;
  try {
    read = readAddress(field.value, page);
  } catch (problem) {
    field.setAttribute("aria-invalid", "true");
    const [title, advice] = words("address");
    byId("amiss").textContent = `${title} ${problem.detail || advice}`;
    field.focus();
    return false;
  }
  field.removeAttribute("aria-invalid");
  byId("amiss").textContent = "";
  if (!source || (source.url ?? source.own) !== (read.url ?? read.own)) {
    if (source) choice = { quality: "", audio: "" };
    source = read;
    report = null;
    stop();
    say("");
    byId("idle").hidden = false;
    byId("timeline").hidden = true;
    byId("source").hidden = byId("take").hidden = byId("figures").hidden = true;
  }
  dismiss();
  remember();
  return true;
}

/** Keep it in the address of the page, behind the #, which no server is ever sent. */
function remember() {
  const wishes = new URLSearchParams({ url: source.url ?? source.own });
  for (const name of ["quality", "audio"]) if (choice[name]) wishes.set(name, choice[name]);
  history.replaceState(null, "", `${location.pathname}#${wishes}`);
  document.title = `${fileName(source).replace(/\.mp4$/, "")} – remuxd`;
}

/** Play what the address of the page says. */
function load() {
  const wishes = new URLSearchParams(location.hash.slice(1) || location.search);
  if (!wishes.get("url")) {
    byId("address").focus();
    return;
  }
  byId("address").value = wishes.get("url");
  source = report = null;
  choice = { quality: wishes.get("quality") ?? "", audio: wishes.get("audio") ?? "" };
  if (take()) play();
}

/** Say what is behind the address, and play nothing. */
function look() {
  if (!take()) return;
  if (!inspectable(source)) say("This path does not tell what is behind it. It plays, though.");
  inspect();
}

async function inspect() {
  const asked = source;
  if (report || !inspectable(source)) return;
  try {
    const found = await (await open(ask("inspect", source, choice, page))).json();
    if (asked !== source) return;
    report = found;
    showReport();
  } catch (problem) {
    if (asked === source && !feed && !failure) fail(problem); // a stream tells it itself
  }
}

// -- playing ---------------------------------------------------------------------------------------

function play(at_s = 0) {
  stop();
  dismiss();
  [asked_ms, first_ms, told] = [performance.now(), 0, null];
  say("Opening …");
  byId("idle").hidden = true;
  feed = createFeed(video, streamAddress, {
    opened,
    parked: () => say("Paused, and let go of. It is taken up again when you go on."),
    failed: fail,
  });
  feed.begin(at_s);
  start();
  inspect();
}

/** Start the video; where a browser lets nothing sound unasked, without sound. */
async function start() {
  byId("unmute").hidden = true;
  try {
    await video.play();
  } catch (error) {
    if (error.name !== "NotAllowedError") return;
    video.muted = true;
    byId("unmute").hidden = false;
    video.play().catch(() => {});
  }
}

function stop() {
  unwatch();
  feed?.close();
  feed = null;
  if (!video.hasAttribute("src")) return;
  video.removeAttribute("src");
  video.load();
}

function opened(stream) {
  byId("timeline").hidden = byId("figures").hidden = false;
  unwatch();
  told = null;
  unwatch = watch(stream.id, (state) => {
    told = state;
    showFigures();
  });
  showTimeline();
  showFigures();
  showLines();
}

/** Play on in another quality or language. */
function choose() {
  choice = { quality: byId("quality").value, audio: byId("audio").value };
  remember();
  showLines();
  if (feed) play(feed.live ? 0 : feed.position_s);
}

// -- words -----------------------------------------------------------------------------------------

function say(text) {
  byId("status").textContent = text;
}

function part(name) {
  return document.querySelector(`#problem [data-of="${name}"]`);
}

/** Show a failure in words; where the API knows the root cause of it, in those. */
async function fail(error) {
  const problem = error instanceof Problem ? error : new Problem("unknown", { detail: String(error) });
  failure = problem;
  const broken = problem.code === "cut";
  const at = broken && feed ? ` at ${clock(feed.buffered.at(-1)?.[1] ?? 0)}` : "";
  if (!feed?.buffered.length) {
    stop();
    byId("idle").hidden = false;
    byId("timeline").hidden = true;
  }
  say(broken ? `It broke off${at}.` : "It failed.");
  showProblem(problem, at);
  if (!broken || !problem.stream) return;
  const ended = await outcome(problem.stream);
  if (ended && failure === problem) showProblem(problem, at, ended);
}

function showProblem(problem, at, ended = null) {
  const cause = ended?.root_cause;
  const code = ended?.outcome ?? problem.code;
  const [title, advice] = words(problem.code, problem.detail);
  const [why, remedy] = code === problem.code ? ["", ""] : words(code);
  part("title").replaceChildren(...marked(at ? title.replace(/\.$/, `${at}.`) : title));
  part("summary").replaceChildren(...marked(cause?.summary || why));
  part("detail").replaceChildren(...marked(problem.detail === title ? "" : problem.detail));
  const actions = cause?.actions?.length ? cause.actions : [remedy || advice];
  part("actions").replaceChildren(...actions.filter(Boolean).map((one) => element("li", one)));
  for (const item of part("actions").children) item.replaceChildren(...marked(item.textContent));
  const evidence = cause?.evidence ?? [];
  part("evidence").replaceChildren(...evidence.map(showEvidence));
  part("evidence").parentElement.hidden = evidence.length === 0;
  const wait = problem.wait_s ? `again in ${problem.wait_s} s` : "";
  part("number").textContent = [wait, code, problem.stream].filter(Boolean).join(" · ");
  byId("again").textContent = at ? "Go on from here" : "Try again";
  byId("problem").hidden = false;
}

function showEvidence({ time, event, detail }) {
  const item = element("li");
  const clockTime = String(time).replace(/^.*T|Z$/g, ""); // the day is known to whoever was there
  item.append(element("time", clockTime), " ", element("b", event), " ", detail ?? "");
  return item;
}

/** Return the state of a stream that has broken off; null: this server does not tell. */
async function outcome(id) {
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

function dismiss() {
  failure = null;
  byId("problem").hidden = true;
}

// -- what it is ------------------------------------------------------------------------------------

const NAMES = [
  [/^avc[13]/, "H.264"], [/^(hvc|hev)1/, "HEVC"], [/^dv(h1|he|av|a1)/, "Dolby Vision"],
  [/^av01/, "AV1"], [/^vp09/, "VP9"], [/^mp4a\.40\.(5|29)/, "HE-AAC"], [/^mp4a\.40\.34/, "MP3"],
  [/^mp4a\.(6b|69)/i, "MP3"], [/^mp4a/, "AAC"], [/^ac-3/, "Dolby Digital"],
  [/^ec-3/, "Dolby Digital Plus"], [/^opus/i, "Opus"], [/^fLaC/i, "FLAC"],
];

function codecNames(codecs) {
  const name = (codec) => NAMES.find(([form]) => form.test(codec))?.[1] ?? codec;
  return [...new Set(codecs.map(name))].join(", ");
}

function showReport() {
  const { copyable, reason } = report;
  byId("source").hidden = false;
  byId("verdict").classList.toggle("no", !copyable);
  byId("verdict").textContent = copyable ? "Plays as it is." : words(reason?.code)[0];
  byId("facts").replaceChildren(...[...sourceFacts()].flatMap(([name, text]) => pair(name, text)));
  showChoices();
  if (copyable) showLines();
  showTimeline();
}

function* sourceFacts() {
  const count = (n, one, many) => `${n} ${n === 1 ? one : many}`;
  const { reason } = report;
  if (reason && reason.detail !== words(reason.code)[0]) yield ["Why not", reason.detail];
  if (report.page) yield ["Found", pageWords(report.page)];
  if (report.kind === "mp4") return; // a page whose video is a file
  yield ["Length", report.live ? "live" : clock(report.duration_s)];
  if (report.codecs) yield ["Codecs", codecNames(report.codecs.split(","))];
  const variants = report.variants.length;
  const kind = variants ? count(variants, "variant", "variants") : "one playlist";
  yield ["Playlist", `${kind}, ${count(report.segments, "segment", "segments")}`];
  const told = report.encryption.filter((method) => method !== "NONE");
  yield ["Encryption", told.length ? told.join(", ") : "none"];
  if (report.discontinuities || report.splices.length) {
    const places = report.splices.slice(0, 4).map((one) => clock(one.time_s)).join(", ");
    const more = report.splices.length > 4 ? " …" : "";
    yield ["Splices", `${report.splices.length}, at ${places}${more}`];
  }
  if (report.gaps) yield ["Missing", count(report.gaps, "segment", "segments")];
}

/** Where on an HTML page it was found. */
function pageWords({ title, extractor }) {
  return [title && `“${title}”`, extractor && `by ${extractor}`].filter(Boolean).join(", ") || "in a page";
}

function showChoices() {
  const options = [["", report.variants.length ? "Best" : "As it is"]];
  for (const [word, { width, height, bandwidth }] of qualities(report.variants)) {
    const size = height ? [`${width}×${height}`] : [];
    options.push([word, [...size, megabits(bandwidth)].join(" · ")]);
  }
  fill(byId("quality"), [...options, ["audio", "Audio only"]], choice.quality);
  const sounds = [...audios(report.renditions)].map(([word, { name, language }]) => [
    word,
    language && language !== name ? `${name} (${language})` : name,
  ]);
  fill(byId("audio"), [["", "Default"], ...sounds], choice.audio);
  byId("audio-choice").hidden = sounds.length < 2;
  for (const select of [byId("quality"), byId("audio")]) {
    select.disabled = Boolean(source.sealed);
    select.title = source.sealed ? "The address is signed, and says it already." : "";
  }
}

function fill(select, options, chosen) {
  if (!options.some(([word]) => word === chosen)) options.push([chosen, chosen]);
  select.replaceChildren(...options.map(([word, text]) => new Option(text, word)));
  select.value = chosen;
}

// -- the time bar ----------------------------------------------------------------------------------

function showTimeline() {
  if (!feed) return;
  const { live, buffered } = feed;
  const known_s = feed.duration_s || report?.duration_s || 0;
  const end_s = live ? (buffered.at(-1)?.[1] ?? 0) : known_s;
  const begin_s = live ? (buffered[0]?.[0] ?? 0) : 0;
  const at_s = held ? Number(position.value) : Math.min(feed.position_s, end_s);
  position.min = begin_s;
  position.max = Math.max(end_s, begin_s + 0.001);
  if (!held) position.value = at_s;
  const share = (time_s) => `${(100 * (time_s - begin_s)) / (position.max - begin_s)}%`;
  const range = buffered.find(([from_s, to_s]) => at_s >= from_s - 1 && at_s <= to_s + 1);
  position.style.setProperty("--played", share(at_s));
  position.style.setProperty("--from", share(range ? Math.max(range[0], begin_s) : at_s));
  position.style.setProperty("--to", share(range ? range[1] : at_s));
  const behind_s = end_s - at_s;
  byId("now").textContent = live ? (behind_s > 3 ? `−${clock(behind_s)}` : "live") : clock(at_s);
  byId("whole").textContent = live ? "" : clock(end_s);
  byId("edge").hidden = !live;
  position.setAttribute(
    "aria-valuetext",
    live ? `${Math.round(behind_s)} seconds behind live` : `${clock(at_s)} of ${clock(end_s)}`,
  );
  const splices = live ? [] : (report?.splices ?? []).filter((one) => one.time_s < end_s);
  const marks = byId("splices");
  if (marks.childElementCount !== splices.length) {
    marks.replaceChildren(...splices.map(() => element("i")));
    splices.forEach((one, n) => marks.children[n].style.setProperty("left", share(one.time_s)));
  }
}

function seekBy(step_s) {
  if (feed) feed.seek(Math.min(Math.max(feed.position_s + step_s, 0), feed.duration_s || 0));
}

const KEYS = {
  " ": () => (video.paused ? video.play().catch(() => {}) : video.pause()),
  ArrowLeft: () => seekBy(-STEP_S),
  ArrowRight: () => seekBy(STEP_S),
  m: () => (video.muted = !video.muted),
  f: () => (document.fullscreenElement ? document.exitFullscreen() : video.requestFullscreen?.()),
};
KEYS.k = KEYS[" "];

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || !feed) return;
  if (event.target.tagName === "BUTTON") return;
  if (event.key === " " && event.target === video) return; // its own key, which cannot be prevented
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!Object.hasOwn(KEYS, key)) return;
  event.preventDefault();
  KEYS[key]();
}

// -- figures ---------------------------------------------------------------------------------------

/** Follow a stream by its number, where this server tells of it; returns how to stop. */
function watch(id, each) {
  if (!id) return () => {};
  const events = new EventSource(new URL(`streams/${id}/events`, page));
  const take = (event) => event.data && each(JSON.parse(event.data));
  events.addEventListener("state", take);
  events.addEventListener("end", (event) => {
    take(event);
    events.close(); // or it would ask again
  });
  return () => events.close();
}

function showFigures() {
  const rows = told ? [...streamFigures(told)] : [];
  if (first_ms) rows.push(["First picture", `${Math.round(first_ms)} ms`]);
  const ahead_s = feed ? (feed.buffered.at(-1)?.[1] ?? 0) - feed.position_s : 0;
  rows.push(["Buffered ahead", `${Math.max(0, ahead_s).toFixed(1)} s`]);
  if (video.videoWidth) rows.push(["Picture", `${video.videoWidth}×${video.videoHeight}`]);
  const { droppedVideoFrames: dropped, totalVideoFrames: all } = video.getVideoPlaybackQuality();
  if (all) rows.push(["Frames dropped", `${dropped} of ${all}`]);
  setPairs(byId("live-figures"), rows);
}

function* streamFigures({ phase, outcome, ttfb_s, bytes_in, bytes_out, segments, buffer, client_stalls }) {
  yield ["Phase", (outcome ?? phase).replaceAll("_", " ")];
  if (ttfb_s !== null) yield ["First fragment", `${Math.round(ttfb_s * 1000)} ms`];
  yield ["From the source", megabytes(bytes_in)];
  yield ["To this page", megabytes(bytes_out)];
  yield ["Segments", String(segments.fetched)];
  yield ["Retries", String(segments.retried)];
  if (segments.skipped) yield ["Skipped", String(segments.skipped)];
  if (buffer.capacity_bytes) {
    yield ["Server’s buffer", `${megabytes(buffer.bytes)} of ${megabytes(buffer.capacity_bytes)}`];
  }
  if (client_stalls) yield ["Waits for this page", String(client_stalls)];
}

/** Put pairs into a list, touching only what has changed: readers and eyes stay where they are. */
function setPairs(list, rows) {
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

// -- taking it along -------------------------------------------------------------------------------

function showLines() {
  const name = fileName(source);
  const address = streamAddress();
  byId("lines").replaceChildren(...lines(address, name).map(([kind, text]) => line(kind, text)));
  byId("link").href = savedAddress(name);
  byId("link").download = name;
  byId("take").hidden = false;
}

/** The address that saves as `name`; the owner's own paths and signed ones say it themselves. */
function savedAddress(name) {
  return ask("stream", source, source.own ? choice : { ...choice, filename: name }, page);
}

function line(kind, text) {
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

let cancelled = null; // the AbortController of the download that runs

async function save() {
  const name = fileName(source);
  let [came_bytes, media_s, whole_s] = [0, 0, 0];
  let unfollow = () => {};
  const shown = (text) => (byId("downloaded").textContent = text);
  const show = () => {
    const share = whole_s ? Math.min(media_s / whole_s, 1) : 0;
    if (share) byId("progress").value = share;
    shown(share ? `${Math.floor(100 * share)} % · ${megabytes(came_bytes)}` : megabytes(came_bytes));
  };
  cancelled = new AbortController();
  saving(true);
  try {
    await download(savedAddress(name), name, cancelled.signal, {
      began: (stream) => {
        whole_s = stream.duration_s ?? 0;
        unfollow = watch(stream.id, (state) => (media_s = state.media_s));
      },
      came: (bytes) => {
        came_bytes = bytes;
        show();
      },
    });
    shown(`${name} is whole: ${megabytes(came_bytes)}.`);
  } catch (error) {
    if (error.name === "AbortError") {
      shown("Cancelled. Nothing was saved.");
    } else {
      shown(`It broke off after ${megabytes(came_bytes)}. Nothing was saved.`);
      if (!failure) fail(error);
    }
  } finally {
    unfollow();
    saving(false);
  }
}

function saving(yes) {
  byId("download").hidden = byId("link").hidden = yes;
  byId("cancel").hidden = byId("progress").hidden = !yes;
  byId("progress").removeAttribute("value");
  byId(yes ? "cancel" : "download").focus();
}

// -- small things ----------------------------------------------------------------------------------

function element(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

/** Split a text at its backticks: what stands between them is code. */
function marked(text) {
  return text.split("`").map((piece, n) => (n % 2 ? element("code", piece) : piece));
}

function pair(name, text) {
  return [element("dt", name), element("dd", text)];
}

function group(name, text) {
  const made = element("div");
  made.append(...pair(name, text));
  return made;
}

function clock(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.floor(Math.max(0, seconds) + 0.05);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`;
}

const megabits = (bits) => (bits < 1e6 ? `${Math.round(bits / 1e3)} kbit/s` : `${(bits / 1e6).toFixed(1)} Mbit/s`);

// -- listening -------------------------------------------------------------------------------------

byId("ask").noValidate = true; // our own words say more
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (take()) play();
});
byId("look").addEventListener("click", look);
byId("dismiss").addEventListener("click", dismiss);
byId("again").addEventListener("click", () => {
  const at_s = feed && !feed.live ? feed.position_s : 0;
  if (take()) play(at_s);
});
byId("unmute").addEventListener("click", () => {
  video.muted = false;
  byId("unmute").hidden = true;
});
byId("quality").addEventListener("change", choose);
byId("audio").addEventListener("change", choose);
byId("edge").addEventListener("click", () => feed?.seekLive());
byId("download").addEventListener("click", save);
byId("cancel").addEventListener("click", () => cancelled?.abort());
byId("stage").addEventListener("keydown", pressed);
position.addEventListener("input", () => {
  held = true;
  showTimeline();
});
position.addEventListener("change", () => {
  held = false;
  const over = video.ended;
  feed?.seek(Number(position.value));
  if (over) start();
});
for (const name of ["timeupdate", "progress", "durationchange", "seeked", "ended"]) {
  video.addEventListener(name, () => {
    showTimeline();
    if (!byId("figures").hidden) showFigures();
  });
}
video.addEventListener("playing", () => {
  if (asked_ms) [first_ms, asked_ms] = [performance.now() - asked_ms, 0];
  say(video.videoWidth ? "Playing." : "Playing, sound only.");
});
video.addEventListener("pause", () => !video.ended && say("Paused."));
video.addEventListener("ended", () => say("It has ended."));
video.addEventListener("waiting", () => !failure && say("Waiting for more …"));
video.addEventListener("volumechange", () => {
  if (!video.muted) byId("unmute").hidden = true;
});
addEventListener("hashchange", load);

load();
