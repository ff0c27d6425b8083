// What the API tells of a running stream, while it runs.

import { megabytes } from "./panel.js";

/** Follow a stream by its number, where this server tells of it; returns how to stop. */
export function watch(id, each, page) {
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

/** Yield `[name, text]` of a state. */
export function* streamFigures({ phase, outcome, ttfb_s, bytes_in, bytes_out, segments, buffer, client_stalls }) {
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
