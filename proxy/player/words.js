// What went wrong, in words for people: a code of docs/errors.md, what happened, what to do about it.
//
// What happened is said as proxy/errors.py says it, so that the page, the API and the documentation
// have one language; what to do is said here.  A test holds the codes and the words against that file.

const AGAIN = "Try again in a moment.";
const OWNER = "Only whoever runs the source can mend this.";
const LIMIT = "The limits of this server are in its config.toml, section limits.";

export const WORDS = {
  // the request
  invalid_request: ["The request is malformed.", "Check the address, the quality and the audio."],
  unauthorized: [
    "This needs the operator's token, as `Authorization: Bearer`.",
    "Playing needs none; what you asked for is the operator's.",
  ],
  forbidden: [
    "This source is not allowed here.",
    "If it is to be played here, its host belongs into upstream.allowed_hosts of this server; " +
      "ports and private addresses have keys there, too. The server's log says which one it was.",
  ],
  not_found: ["There is nothing here.", "Check the address."],
  method_not_allowed: ["Only GET and HEAD are answered here.", "Reload the page."],
  start_beyond_end: [
    "`start` lies beyond the end of the presentation.",
    "Choose an earlier position.",
  ],
  rate_limited: ["This client has as many streams as it may have.", "Close one of them."],
  overloaded: [
    "The proxy is busy. Try again soon.",
    "Each stream that ends makes room for another.",
  ],
  http_version_unsupported: [
    "Use HTTP/1.1: over HTTP/1.0 this server could not show you a broken stream.",
    "Let the proxy in front of it speak HTTP/1.1: over 1.0 a broken stream looks like a whole one.",
  ],
  loop_detected: [
    "This request came back to the proxy that sent it.",
    "Give the address of the source, not one of this server.",
  ],

  // the source
  source_not_found: [
    "The source says that there is no such playlist.",
    "Check the address: it may have expired.",
  ],
  source_unavailable: ["The source could not be read.", "See whether it opens elsewhere. " + AGAIN],
  too_many_redirects: [
    "The source leads from one address to the next, and to none in the end.",
    OWNER,
  ],
  source_timeout: ["The source took too long.", AGAIN],
  headers_timeout: ["The source took too long to begin its answer.", AGAIN],
  source_too_large: ["The source is larger than the proxy reads.", LIMIT],
  playlist_too_large: ["A playlist of the source has more bytes than the proxy reads.", LIMIT],
  segment_too_large: ["A segment of the source has more bytes than the proxy reads.", LIMIT],
  init_section_too_large: [
    "An init section of the source has more bytes than the proxy reads.",
    LIMIT,
  ],
  key_unavailable: [
    "The key that opens the source could not be had.",
    "It may need credentials, which belong into upstream.headers of this server.",
  ],
  key_too_large: [
    "What should be the key of the source has more bytes than the proxy reads.",
    OWNER,
  ],

  // the playlist
  playlist_error: ["The playlist is malformed.", OWNER],
  not_a_playlist: [
    "An address in the playlist does not lead to a playlist.",
    "The address may have expired.",
  ],
  nested_playlist: ["A multivariant playlist leads to another one.", OWNER],
  line_too_long: ["A line of the playlist is too long.", OWNER],
  too_many_lines: ["The playlist has too many lines.", OWNER],
  too_many_segments: ["The playlist has too many segments.", LIMIT],
  too_many_variants: ["The playlist has too many variants.", OWNER],
  too_many_renditions: ["The playlist has too many renditions.", OWNER],
  too_many_keys: ["The playlist has too many keys.", OWNER],
  too_many_init_sections: ["The playlist has too many init sections.", OWNER],
  too_many_attributes: ["The playlist has too many attributes.", OWNER],
  playlist_expands_too_far: ["The addresses and variables of the playlist grow too long.", OWNER],
  no_video_found: [
    "This address is a page, and no HLS address was found in it.",
    "Give the address of the playlist itself: it usually ends in .m3u8.",
  ],
  plain_file: [
    "The video of this page is a plain MP4, which can be fetched directly.",
    "Open its address: it needs no proxy.",
  ],
  page_refused: [
    "The site does not give this page to programs. Nothing is done against that: use its " +
      "official API, or the address of the playlist where you may have it.",
    "Give the address of the playlist itself, if you may have it.",
  ],
  no_playable_variant: [
    "No variant of this presentation can be put into an MP4.",
    "Nothing is re-encoded here: its codecs must be some that MP4 holds.",
  ],
  encrypted_source: [
    "The source is encrypted in a way the proxy does not open.",
    "AES-128 with a key that can be had is opened; DRM is not.",
  ],

  // the media
  unsupported_codec: [
    "The source uses a codec that players of MP4 do not take.",
    "Nothing is re-encoded here. Another quality may use another codec.",
  ],
  corrupt_media: [
    "The media of the source is damaged, or is no media.",
    "Another quality may be whole. " + OWNER,
  ],
  splice_incompatible: [
    "The source changes its audio or its codec in mid-stream.",
    "One MP4 cannot hold both parts. Start behind the change, or choose another quality.",
  ],

  // this server
  internal_error: [
    "The proxy failed on this request.",
    "Its log tells more, under the number of the stream.",
  ],
  remux_failed: ["The proxy failed to remux the source.", "Its log tells more."],
  stopped: ["The operator has stopped this stream.", "Ask whoever runs this server."],
  stream_too_long: [
    "The stream has been running for longer than the proxy lets one run.",
    "Go on from here with a new one.",
  ],
};

// Ends of a stream that are no errors of its own.
export const OUTCOMES = {
  client_gone: ["The connection between this page and the server was lost.", AGAIN],
  client_idle: ["The server gave up: nothing was taken from it for too long.", AGAIN],
  shutdown: ["The server was shut down in mid-stream.", AGAIN],
};

// What only the page itself can notice.
export const OWN = {
  address: [
    "This is no address that can be played.",
    "It begins with https:// or http://, and leads to an HLS playlist or to a page with one.",
  ],
  unreachable: ["This server does not answer.", "See whether it is running, and you are online."],
  cut: [
    "The stream broke off.",
    "What has been played is whole; the rest did not come.",
  ],
  codec: [
    "This browser lacks a codec of this stream.",
    "Download it and play it elsewhere, or choose another quality.",
  ],
  decode: ["This browser could not decode the stream.", "Another player may: download it."],
  disk: ["The file could not be written.", "Nothing was saved."],
  unknown: ["Something unforeseen was answered.", "A proxy in between may have answered instead."],
};

// A refusal that is about signatures has another remedy than one that is about the source.
const UNSIGNED =
  "This server plays signed addresses. Paste a whole one, https://…/stream?…&signature=…, " +
  "as “remuxd sign” makes them.";

/** Return [what happened, what to do] for a code; one that is newer than this page has its detail. */
export function words(code, detail = "") {
  const known = [WORDS, OUTCOMES, OWN].find((one) => Object.hasOwn(one, code));
  if (!known) return detail ? [detail, ""] : OWN.unknown;
  const [title, advice] = known[code];
  const unsigned = code === "forbidden" && /\b(signed|signature|link)\b/.test(detail);
  return [title, unsigned ? UNSIGNED : advice];
}
