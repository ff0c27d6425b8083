// The player page: an address in; a picture, what is behind it, and ways to take it along out.
//
// Every text that comes from elsewhere (playlists, errors, addresses) is put in as text.  Addresses
// of the API are relative to the page.  The address to play is kept in the fragment of the page's own
// address (`#url=...`), which is never sent to anybody.

import { ask, fileName, inspectable, lines, readAddress } from "./address.js";
import { download } from "./download.js";
import { createFeed, open, Problem } from "./feed.js";
import { streamFigures, watch } from "./figures.js";
import { byId, clock, element, fill, line, megabytes, pair, setPairs } from "./panel.js";
import { outcome, showProblem } from "./problem.js";
import { audioOptions, qualityOptions, sourceFacts } from "./report.js";
import { words } from "./words.js";

const STEP_S = 5; // of the arrow keys

const video = byId("video");
const position = byId("position");
const page = document.baseURI.replace(/[?#].*/s, "");

let source = null; // what is asked for: see `readAddress`
let choice = { quality: "", audio: "", skip: "" }; // words of the query; empty: the default
let report = null; // what /inspect says of it
let feed = null;
let failure = null; // the Problem that is shown
let asked_ms = 0; // when playing was asked for, until the first picture is there
let first_ms = 0; // how long that took
let told = null; // what the API has told last of the running stream
let unwatch = () => {};
let held = false; // whether the time bar is being dragged: then it does not follow the video

// -- what to play ----------------------------------------------------------------------------------

function wishes() {
  const { quality, audio, skip } = choice;
  return { quality, audio, on_gap: skip, on_splice: skip };
}

function streamAddress(start_s = null) {
  return ask("stream", source, { ...wishes(), start: start_s?.toFixed(3) }, page);
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
    if (source) choice = { quality: "", audio: "", skip: "" };
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
  const kept = new URLSearchParams({ url: source.url ?? source.own });
  for (const [name, word] of Object.entries(choice)) if (word) kept.set(name, word);
  history.replaceState(null, "", `${location.pathname}#${kept}`);
  document.title = `${fileName(source).replace(/\.mp4$/, "")} – remuxd`;
}

/** Play what the address of the page says. */
function load() {
  const kept = new URLSearchParams(location.hash.slice(1) || location.search);
  if (!kept.get("url")) {
    byId("address").focus();
    return;
  }
  byId("address").value = kept.get("url");
  source = report = null;
  choice = {
    quality: kept.get("quality") ?? "",
    audio: kept.get("audio") ?? "",
    skip: kept.get("skip") ? "skip" : "",
  };
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
    const found = await (await open(ask("inspect", source, wishes(), page))).json();
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
  const each = (state) => {
    told = state;
    showFigures();
  };
  unwatch = watch(stream.id, each, page);
  showTimeline();
  showFigures();
  showLines();
}

/** Play on in another quality or language, or without what cannot be had. */
function choose() {
  const skip = byId("skip").checked ? "skip" : "";
  choice = { quality: byId("quality").value, audio: byId("audio").value, skip };
  remember();
  showLines();
  if (feed || failure) play(feed && !feed.live ? feed.position_s : 0);
}

// -- words -----------------------------------------------------------------------------------------

function say(text) {
  byId("status").textContent = text;
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
  const ended = await outcome(problem.stream, page);
  if (ended && failure === problem) showProblem(problem, at, ended);
}

function dismiss() {
  failure = null;
  byId("problem").hidden = true;
}

// -- what it is ------------------------------------------------------------------------------------

function showReport() {
  const { copyable, reason } = report;
  byId("source").hidden = false;
  byId("verdict").classList.toggle("no", !copyable);
  byId("verdict").textContent = copyable ? "Plays as it is." : words(reason?.code)[0];
  byId("facts").replaceChildren(...[...sourceFacts(report)].flatMap(([name, text]) => pair(name, text)));
  showChoices();
  if (copyable) showLines();
  showTimeline();
}

function showChoices() {
  const sounds = audioOptions(report);
  fill(byId("quality"), qualityOptions(report), choice.quality);
  fill(byId("audio"), sounds, choice.audio);
  byId("audio-choice").hidden = sounds.length < 3; // the default, and one: nothing to choose from
  byId("skip").checked = Boolean(choice.skip);
  for (const control of [byId("quality"), byId("audio"), byId("skip")]) {
    control.disabled = Boolean(source.sealed);
    control.title = source.sealed ? "The address is signed, and says it already." : "";
  }
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
  return ask("stream", source, source.own ? wishes() : { ...wishes(), filename: name }, page);
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
        unfollow = watch(stream.id, (state) => (media_s = state.media_s), page);
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
byId("skip").addEventListener("change", choose);
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
