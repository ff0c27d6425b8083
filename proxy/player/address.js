// Addresses: what was typed, what is asked of the API, and what it is called elsewhere.  Pure; nothing
// here knows the page.

import { Problem } from "./feed.js";

const SIGNED = ["expires", "key_id", "signature"];
const DULL = /^(master|index|playlist|main|media|video|stream|chunklist|manifest|hls)?$/i;

/**
 * Understand what was typed, on a page at `page` (an address).
 *
 * `{url}` is to be asked for.  `{own}` is an address of this server itself, which is played as it is;
 * a `sealed` one is signed, so that nothing may be added to it.
 */
export function readAddress(text, page) {
  const base = new URL(".", page);
  let address;
  try {
    address = new URL(text.trim(), /^\/[^/]/.test(text.trim()) ? base : undefined);
  } catch {
    throw new Problem("address");
  }
  if (!/^https?:$/.test(address.protocol)) throw new Problem("address");
  if (address.username || address.password) {
    throw new Problem("address", { detail: "It must not hold a user name or a password." });
  }
  const path = address.pathname;
  const inside = address.origin === base.origin && path.startsWith(base.pathname);
  if (!inside || path === base.pathname || /\.m3u8?$/i.test(path)) return { url: address.href };
  return { own: address.href, sealed: SIGNED.some((name) => address.searchParams.has(name)) };
}

/** Whether /inspect can tell anything: a path of the owner's tells nothing of where it leads. */
export function inspectable(source) {
  return !source.own || new URL(source.own).pathname.endsWith("/stream");
}

/**
 * Return the address of a request (`stream`, `inspect`) for a source.
 *
 * `wishes` are parameters of the query; those without a value are left out.
 */
export function ask(what, source, wishes, page) {
  const address = new URL(source.own ?? what, page);
  if (source.own && what !== "stream") {
    address.pathname = address.pathname.replace(/stream$/, what);
  }
  if (source.sealed) return address.href;
  const all = { ...(source.url && { url: source.url }), ...wishes };
  const given = Object.entries(all).filter(([, value]) => value !== undefined && value !== "");
  for (const [name, value] of given) address.searchParams.set(name, value);
  // Spaces as %20, which shells and people read more easily than +.
  if (given.length) address.search = address.search.replaceAll("+", "%20");
  return address.href;
}

/** Return a file name out of an address: the last word in it that says something. */
export function fileName(source) {
  const address = new URL(source.url ?? new URL(source.own).searchParams.get("url") ?? source.own);
  const words = address.pathname.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  const names = words.map((part) => part.replace(/\.(m3u8?|mp4|html?|ism|smil)$/i, ""));
  const name = names.findLast((one) => !DULL.test(one)) ?? address.hostname;
  const clean = name.replace(/[\p{C}/\\:*?"<>|]+/gu, "_").replace(/^[-.\s]+|[.\s]+$/g, "");
  return `${[...clean].slice(0, 60).join("") || "video"}.mp4`;
}

/** Return what to type elsewhere: `[[program, line]]`. */
export function lines(address, name) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`; // for a POSIX shell
  const escaped = (text) =>
    text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;");
  return [
    ["curl", `curl --fail -o ${quoted(name)} ${quoted(address)}`],
    ["ffplay", `ffplay ${quoted(address)}`],
    ["HTML", `<video controls src="${escaped(address)}"></video>`],
  ];
}

/** Return the words for `quality` that choose each variant, best first: a map of word to variant. */
export function qualities(variants) {
  const words = new Map();
  for (const variant of [...variants].sort((a, b) => b.bandwidth - a.bandwidth)) {
    const equals = variants.filter((other) => other.height === variant.height);
    const alone = variant.height && equals.length === 1;
    const word = alone ? `${variant.height}p` : `${Math.ceil(variant.bandwidth / 1000)}k`;
    if (!words.has(word)) words.set(word, variant);
  }
  return words;
}

/**
 * Return the words for `audio` that choose each rendition: its language, or its name where others are
 * in the range of that language, too.
 */
export function audios(renditions) {
  const sounds = renditions.filter((rendition) => rendition.type === "AUDIO");
  const words = new Map();
  for (const sound of sounds) {
    const range = sound.language?.toLowerCase();
    const speaks = ({ language, name }) =>
      name !== sound.name && `${language?.toLowerCase() ?? ""}-`.startsWith(`${range}-`);
    const word = range && !sounds.some(speaks) ? sound.language : sound.name;
    if (!words.has(word)) words.set(word, sound);
  }
  return words;
}
