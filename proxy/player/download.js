// A stream into a file.  What was broken off is never kept as if it were whole.

import { describe, open, Problem } from "./feed.js";

const BLOB_BYTES = 16 << 20; // in pieces of that size a browser may put a blob on disk

/**
 * Fetch all of an address into a file that the reader chooses, or among the downloads.
 *
 * `on.began(stream)` is told what comes, `on.came(bytes)` how much of it has.  Returns the bytes.
 *
 * Raises: AbortError (the reader did not want it after all), Problem (nothing was saved).
 */
export async function download(address, name, signal, on) {
  const sink = await openSink(name); // first: it must come straight from a click
  try {
    const answer = await open(address, { signal });
    const stream = describe(answer);
    on.began(stream);
    const reader = answer.body.getReader();
    let bytes = 0;
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw signal.aborted ? error : new Problem("cut", { stream: stream.id });
      });
      if (done) break;
      await sink.write(value);
      bytes += value.byteLength;
      on.came(bytes);
    }
    await sink.keep();
    return bytes;
  } catch (error) {
    await sink.drop();
    if (signal.aborted || error instanceof Problem) throw error;
    throw new Problem("disk", { detail: error.message });
  }
}

function openSink(name) {
  return globalThis.showSaveFilePicker ? chosenFile(name) : memory(name);
}

async function chosenFile(name) {
  const types = [{ description: "MP4", accept: { "video/mp4": [".mp4"] } }];
  const handle = await globalThis.showSaveFilePicker({ suggestedName: name, types });
  const fresh = (await handle.getFile()).size === 0; // made just now, by the choice
  const writable = await handle.createWritable(); // into a copy, which `close` puts in place
  return {
    write: (bytes) => writable.write(bytes),
    keep: () => writable.close(),
    drop: async () => {
      await writable.abort().catch(() => {});
      if (fresh) await handle.remove?.().catch(() => {});
    },
  };
}

function memory(name) {
  let blob = new Blob([], { type: "video/mp4" });
  let parts = [];
  let held_bytes = 0;
  const gather = () => {
    blob = new Blob([blob, ...parts], { type: "video/mp4" });
    [parts, held_bytes] = [[], 0];
  };
  return {
    write: (bytes) => {
      parts.push(bytes);
      held_bytes += bytes.byteLength;
      if (held_bytes >= BLOB_BYTES) gather();
    },
    keep: () => {
      gather();
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser has begun by then
    },
    drop: () => {
      [blob, parts] = [null, []];
    },
  };
}
