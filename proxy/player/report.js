// What /inspect says of a source, in words for people.  Pure; nothing here knows the page.

import { audios, qualities } from "./address.js";
import { clock, megabits } from "./panel.js";
import { words } from "./words.js";

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

/** Yield `[name, text]` of what is worth knowing of a source. */
export function* sourceFacts(report) {
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

/** Return what there is to choose from: `[[word of the query, text]]`, the default first. */
export function qualityOptions({ variants }) {
  const options = [["", variants.length ? "Best" : "As it is"]];
  for (const [word, { width, height, bandwidth }] of qualities(variants)) {
    const size = height ? [`${width}×${height}`] : [];
    options.push([word, [...size, megabits(bandwidth)].join(" · ")]);
  }
  return [...options, ["audio", "Audio only"]];
}

export function audioOptions({ renditions }) {
  const sounds = [...audios(renditions)].map(([word, { name, language }]) => [
    word,
    language && language !== name ? `${name} (${language})` : name,
  ]);
  return [["", "Default"], ...sounds];
}
