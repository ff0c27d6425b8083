// What feeds the video: one address that can be opened at any position, poured into a MediaSource
// (ManagedMediaSource where that is what the browser has), or given to the video as it is.
//
//   const feed = createFeed(video, (at_s) => address, {opened, failed, parked});
//   feed.begin(0);  feed.seek(12.5);  feed.position_s;  feed.duration_s;  feed.close();
//
// Both kinds have this shape.  Times are seconds of the whole presentation, wherever the stream that
// is being played has begun.  Rules of BufferFeed:
//
// 1. One run at a time: a new one waits until the one before has let go of the SourceBuffer.
// 2. It reads no further than AHEAD_S, so that a paused page holds no more than that, and after
//    PARK_S of not reading it hangs up; it goes on from there when there is room again.
// 3. Any seek, whoever asked for it, comes as `seeking`; what is not there is opened anew.

const AHEAD_S = 30; // enough for a gap in the network, little enough to hold
const BEHIND_S = 30; // of what was played: stepping back is no new request
const PIECE_BYTES = 64 << 10; // at a low bitrate what one read brings may be a minute
const NEAR_S = 5; // a seek so little ahead is reached by reading on
const PARK_S = 20; // servers cut a client that takes nothing for a minute
const SETTLE_MS = 150; // while a bar is being dragged
const END_S = 0.5; // the last place to open: at the very end there is nothing

const managed = !globalThis.MediaSource && !!globalThis.ManagedMediaSource;
const Source = globalThis.MediaSource ?? globalThis.ManagedMediaSource;

/** A failure with a code of words.js. */
export class Problem extends Error {
  constructor(code, { detail = "", status = 0, stream = "", wait_s = 0, file = "" } = {}) {
    super(detail || code);
    Object.assign(this, { code, detail, status, stream, wait_s, file });
  }
}

/** Fetch; raise a Problem for any answer that is none. */
export async function open(address, { signal, method = "GET" } = {}) {
  let answer;
  try {
    answer = await fetch(address, { signal, method, cache: "no-store" });
  } catch (error) {
    throw signal?.aborted ? error : new Problem("unreachable");
  }
  if (answer.ok) return answer;
  const stream = answer.headers.get("X-Stream-Id") ?? "";
  const wait_s = Number(answer.headers.get("Retry-After")) || 0;
  const told = { status: answer.status, stream, wait_s };
  if (answer.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    const { code, detail, file } = await answer.json().catch(() => ({}));
    if (code) throw new Problem(code, { ...told, detail, file });
  }
  throw new Problem("unknown", { ...told, detail: `The answer was ${answer.status}.` });
}

/** What the headers of a stream tell. `duration_s` is that of all of it; null: it is live. */
export function describe(answer) {
  const number = (name) => {
    const text = answer.headers.get(name);
    return text === null ? null : Number(text);
  };
  const start_s = number("X-Start-Time") ?? 0;
  const left_s = number("X-Content-Duration");
  return {
    id: answer.headers.get("X-Stream-Id") ?? "",
    mime: answer.headers.get("Content-Type") ?? "",
    start_s,
    duration_s: left_s === null ? null : start_s + left_s,
  };
}

/** Which codecs of a Content-Type this browser does not decode. */
export function lacking(mime) {
  if (!Source || Source.isTypeSupported(mime)) return [];
  const codecs = /codecs="([^"]*)"/.exec(mime)?.[1].split(",") ?? [];
  const lacked = codecs.filter((one) => !Source.isTypeSupported(`video/mp4; codecs="${one}"`));
  return lacked.length ? lacked : codecs;
}

export function createFeed(video, address, on) {
  return Source ? new BufferFeed(video, address, on) : new FileFeed(video, address, on);
}

// -- Media Source Extensions ----------------------------------------------------------------------

class BufferFeed {
  #video;
  #address;
  #on;
  #source = null;
  #buffer = null;
  #mime = "";
  #ended = new AbortController(); // of the feed as a whole
  #run = new AbortController(); // of the request that is running
  #running = Promise.resolve();
  #from_s = 0; // where the running request begins
  #busy = false; // whether more may come without asking
  #live = false;
  #duration_s = NaN;
  #ahead_s = AHEAD_S;
  #settling = 0;
  #wake = () => {};
  #woken;

  constructor(video, address, on) {
    [this.#video, this.#address, this.#on] = [video, address, on];
    this.#stir();
    this.#listen(video, ["timeupdate", "play", "ratechange"], () => this.#stir());
    this.#listen(video, ["seeking"], () => this.#sought());
    this.#listen(video, ["waiting"], () => this.#starved());
    this.#listen(video, ["error"], () => this.#fail(this.#undecodable()));
  }

  get position_s() {
    return this.#video.currentTime;
  }

  get duration_s() {
    return this.#live ? Infinity : this.#duration_s;
  }

  get live() {
    return this.#live;
  }

  get buffered() {
    const ranges = this.#buffer && this.#source.readyState !== "closed" ? this.#buffer.buffered : [];
    return [...Array(ranges.length).keys()].map((n) => [ranges.start(n), ranges.end(n)]);
  }

  /** Begin at a position, in place of whatever is running. */
  begin(at_s) {
    this.#start(at_s, { goOn: false });
  }

  seek(at_s) {
    const end_s = this.#live ? this.#end_s() : this.#duration_s;
    this.#video.currentTime = Math.max(0, Math.min(at_s, end_s || 0));
  }

  /** Seek to the newest that is there. */
  seekLive() {
    this.#video.currentTime = Math.max(0, this.#end_s() - 1);
  }

  close() {
    clearTimeout(this.#settling);
    this.#run.abort();
    this.#ended.abort();
    this.#stir();
  }

  #listen(target, names, listener) {
    for (const name of names) target.addEventListener(name, listener, { signal: this.#ended.signal });
  }

  /** Let everything that waits look again. */
  #stir() {
    this.#wake();
    this.#woken = new Promise((resolve) => (this.#wake = resolve));
  }

  #start(at_s, { goOn }) {
    if (!this.#live && this.#duration_s) at_s = Math.min(at_s, this.#duration_s - END_S);
    this.#run.abort();
    this.#stir();
    const run = (this.#run = new AbortController());
    this.#from_s = at_s = Math.max(0, at_s);
    this.#busy = true;
    const before = this.#running;
    this.#running = this.#pull(at_s, goOn, before, run.signal).catch((error) => {
      if (run.signal.aborted) return;
      run.abort(); // or the rest of the answer would still come
      this.#fail(error instanceof Problem ? error : new Problem("unknown", { detail: String(error) }));
    });
  }

  async #pull(at_s, goOn, before, signal) {
    const wanted_s = this.#live || at_s === 0 ? null : at_s;
    const attached = this.#attach(signal); // meanwhile
    attached.catch(() => {});
    const answer = await open(this.#address(wanted_s), { signal });
    const stream = describe(answer);
    const lacked = lacking(stream.mime);
    if (lacked.length) throw new Problem("codec", { detail: lacked.join(", "), stream: stream.id });
    await Promise.all([attached, before]);
    signal.throwIfAborted();
    await this.#prepare(stream, at_s, goOn, signal);
    this.#on.opened?.(stream);
    const reader = answer.body.getReader();
    if (await this.#pour(reader, stream, signal)) {
      if (this.#source.readyState === "open") this.#source.endOfStream();
      this.#busy = false;
      return;
    }
    this.#run.abort(); // parked
    this.#busy = false;
    this.#on.parked?.();
    const run = this.#run;
    const resume = async () => {
      while (this.#full()) await this.#woken;
      if (run === this.#run && !this.#ended.signal.aborted) this.#start(this.#end_s(), { goOn: true });
    };
    resume();
  }

  /** Open a MediaSource in the video, once. */
  async #attach(signal) {
    if (this.#source) return;
    const source = (this.#source = new Source());
    this.#listen(source, ["startstreaming", "endstreaming"], () => this.#stir());
    if (managed) this.#video.disableRemotePlayback = true; // or Safari never opens it
    const opened = event(source, ["sourceopen"], signal);
    const address = URL.createObjectURL(source);
    this.#video.src = address;
    await opened;
    URL.revokeObjectURL(address);
  }

  async #prepare(stream, at_s, goOn, signal) {
    const fresh = !this.#buffer;
    if (fresh) {
      this.#buffer = this.#source.addSourceBuffer(stream.mime);
    } else {
      if (!goOn) await this.#operate((buffer) => buffer.remove(0, Infinity));
      signal.throwIfAborted();
      if (this.#source.readyState === "ended") this.#buffer.timestampOffset = 0; // opens it again
      this.#buffer.abort(); // the run before may have stopped in mid-fragment
      if (stream.mime !== this.#mime) this.#buffer.changeType(stream.mime);
    }
    this.#mime = stream.mime;
    this.#live = stream.duration_s === null;
    this.#from_s = stream.start_s;
    this.#buffer.timestampOffset = this.#live ? this.#end_s() : stream.start_s;
    this.#duration_s = this.#live ? Infinity : Math.max(stream.duration_s, this.#end_s());
    this.#source.duration = this.#duration_s;
    if (fresh && at_s > 0) this.#video.currentTime = at_s;
  }

  /** Append what comes; return whether it has ended. False: nothing was wanted for so long. */
  async #pour(reader, stream, signal) {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw signal.aborted ? error : new Problem("cut", { stream: stream.id });
      });
      if (done) return true;
      for (let at = 0; at < value.length; at += PIECE_BYTES) {
        if (!(await this.#room(signal))) return false;
        await this.#append(value.subarray(at, at + PIECE_BYTES), signal);
        signal.throwIfAborted();
        this.#leap();
      }
    }
  }

  /** Wait until more is wanted; return whether that was soon enough. */
  async #room(signal) {
    const since_ms = performance.now();
    while (this.#full()) {
      if (performance.now() - since_ms > PARK_S * 1000) return false;
      await Promise.race([this.#woken, delay(1000)]);
      signal.throwIfAborted();
    }
    return true;
  }

  async #append(bytes, signal) {
    for (;;) {
      signal.throwIfAborted();
      try {
        await this.#operate((buffer) => buffer.appendBuffer(bytes));
        break;
      } catch (error) {
        if (error.name !== "QuotaExceededError") throw error;
        this.#ahead_s = Math.max(2, (this.#end_s() - this.position_s) / 2);
        await this.#forget(1);
        await Promise.race([this.#woken, delay(1000)]);
      }
    }
    await this.#forget(BEHIND_S);
  }

  /** Remove what was played longer ago than that. */
  async #forget(behind_s) {
    const begin_s = this.buffered[0]?.[0];
    const until_s = this.position_s - behind_s;
    if (until_s - begin_s > behind_s / 4) await this.#operate((buffer) => buffer.remove(0, until_s));
  }

  async #operate(work) {
    const done = event(this.#buffer, ["updateend"], this.#ended.signal);
    done.catch(() => {}); // where `work` throws, nobody waits for it
    work(this.#buffer);
    await done;
    if (this.#video.error) throw this.#undecodable();
  }

  #end_s() {
    return this.buffered.at(-1)?.[1] ?? this.#from_s;
  }

  #full() {
    if (managed && this.#source && !this.#source.streaming) return true;
    return this.#end_s() - this.position_s > this.#ahead_s;
  }

  #holds(at_s) {
    return this.buffered.some(([begin_s, end_s]) => at_s >= begin_s && at_s < end_s);
  }

  #sought() {
    clearTimeout(this.#settling);
    this.#stir();
    const at_s = this.position_s;
    const coming = this.#busy && at_s >= this.#from_s && at_s < this.#end_s() + NEAR_S;
    if (this.#holds(at_s) || coming || (!this.#busy && at_s >= this.#duration_s)) return;
    if (this.#live) {
      this.#leap();
      return;
    }
    this.#run.abort(); // what it would append belongs elsewhere
    this.#busy = false;
    this.#settling = setTimeout(() => this.#start(this.position_s, { goOn: false }), SETTLE_MS);
  }

  #starved() {
    if (!this.#run.signal.aborted) this.#leap();
    this.#stir();
  }

  /** Step over a hole: streams only go on, so nothing will ever fill it. */
  #leap() {
    const at_s = this.position_s;
    const next = this.buffered.find(([begin_s]) => begin_s > at_s);
    if (next && !this.#holds(at_s)) this.#video.currentTime = next[0] + 0.01;
  }

  #undecodable() {
    return new Problem("decode", { detail: this.#video.error?.message ?? "" });
  }

  #fail(problem) {
    if (this.#ended.signal.aborted) return;
    this.#busy = false;
    this.#on.failed?.(problem);
  }
}

// -- a bare address -------------------------------------------------------------------------------

class FileFeed {
  #video;
  #address;
  #on;
  #asked = ""; // the address that was opened last
  #turn = 0; // how often one was
  #sought_s = null; // where it will be, while that is asked for
  #from_s = 0;
  #duration_s = NaN;
  #ended = new AbortController();

  constructor(video, address, on) {
    [this.#video, this.#address, this.#on] = [video, address, on];
    video.addEventListener("error", () => this.#learn(), { signal: this.#ended.signal });
  }

  get position_s() {
    return this.#sought_s ?? this.#from_s + this.#video.currentTime;
  }

  get duration_s() {
    return this.#duration_s;
  }

  get live() {
    return this.#duration_s === Infinity;
  }

  get buffered() {
    const ranges = this.#video.buffered;
    const from_s = this.#from_s;
    return [...Array(ranges.length).keys()].map((n) => [
      from_s + ranges.start(n),
      from_s + ranges.end(n),
    ]);
  }

  /** Ask what it is (a HEAD leaves nothing running), then let the video fetch it. */
  async begin(at_s) {
    const address = (this.#asked = this.#address(at_s > 0 ? at_s : null));
    const { signal } = this.#ended;
    const turn = ++this.#turn;
    const over = () => signal.aborted || turn !== this.#turn;
    this.#sought_s = at_s;
    try {
      const stream = describe(await open(address, { signal, method: "HEAD" }));
      if (over()) return;
      const playing = !this.#video.paused; // a new source can pause it
      this.#sought_s = null;
      this.#from_s = stream.start_s;
      this.#duration_s = stream.duration_s ?? Infinity;
      this.#video.src = address;
      if (playing) this.#video.play().catch(() => {});
      this.#on.opened?.({ ...stream, id: "" }); // that one has ended
    } catch {
      if (over()) return;
      this.#sought_s = null;
      await this.#learn();
    }
  }

  /**
   * What is buffered cannot always be sought: Chromium then goes back to the very beginning.  It is
   * opened anew, unless it is live: there, what a player has seen has no address.
   */
  seek(at_s) {
    const at_own_s = at_s - this.#from_s;
    const { seekable } = this.#video;
    const within = (n) => at_own_s >= seekable.start(n) && at_own_s < seekable.end(n);
    if ([...Array(seekable.length).keys()].some(within)) this.#video.currentTime = at_own_s;
    else if (!this.live) this.begin(Math.min(at_s, this.#duration_s - END_S));
  }

  seekLive() {
    this.begin(0);
  }

  close() {
    this.#ended.abort();
  }

  /** A video does not say why it failed: ask the server. */
  async #learn() {
    const asking = new AbortController();
    try {
      await open(this.#asked, { signal: asking.signal });
      this.#on.failed?.(new Problem("decode", { detail: this.#video.error?.message ?? "" }));
    } catch (error) {
      if (!this.#ended.signal.aborted) this.#on.failed?.(error);
    } finally {
      asking.abort();
    }
  }
}

// -- waiting --------------------------------------------------------------------------------------

function delay(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Wait for the first of some events; raises when the signal is aborted. */
function event(target, names, signal) {
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const settle = (settled) => (value) => {
      done.abort();
      settled(value);
    };
    for (const name of names) target.addEventListener(name, settle(resolve), { signal: done.signal });
    signal.addEventListener("abort", () => settle(reject)(signal.reason), { signal: done.signal });
    if (signal.aborted) settle(reject)(signal.reason);
  });
}
