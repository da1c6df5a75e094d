// Texts of the page in the chosen language, and formats for numbers and times.

let catalogue = {};
export const LANGUAGES = { en: "English", de: "Deutsch" };

const stored = () => { try { return localStorage.getItem("language"); } catch { return null; } };
export let language = LANGUAGES[stored()] ? stored() : (navigator.language ?? "en").startsWith("de") ? "de" : "en";

export function setTexts(texts) {
  catalogue = texts;
  document.documentElement.lang = language;
}

export function setLanguage(name) {
  language = name;
  try { localStorage.setItem("language", name); } catch { /* private windows store nothing */ }
  document.documentElement.lang = name;
}

/**
 * Returns the text of a key such as "films.title", which is "title" in text/films.json. {name} is replaced by `values.name`.
 * In a text with `|`, the part before it is the singular and the part after it the plural, selected by `values.count`.
 */
export function t(key, values = {}) {
  let text = catalogue[key]?.[language] ?? catalogue[key]?.en ?? key;
  if (text.includes("|") && "count" in values) text = text.split("|")[values.count === 1 ? 0 : 1];
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Returns the text of a key if the catalogue has one, otherwise `text`: the description from a plugin. */
export const textOr = (key, text) => (key in catalogue ? t(key) : text);

/** Returns a message of the server, `{ code, values, message }`, translated if text/messages.json has its code, otherwise unchanged. @param {{ code?: string, values?: any, error?: string, message?: string }} message */
export function translated({ code, values = {}, error, message = error }) {
  const key = `messages.${code}`;
  if (!catalogue[key]?.[language]) return message;
  const shown = (value) => (value?.message ? translated(value) : Number.isInteger(value) || typeof value !== "number" ? value : Number(value.toPrecision(4))); // a value may be a message, too
  return t(key, Object.fromEntries(Object.entries(values).map(([name, value]) => [name, shown(value)]))) + (values.more ?? []).map(shown).join("");
}

export const number = (value, digits = 0) =>
  new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
export const percent = (share, digits = 0) =>
  new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits }).format(share);

/** Formats seconds as 0:05, 12:34 or 1:02:03, optionally with tenths. */
export function clock(seconds, tenths = false) {
  const tenth = Math.floor(10 * seconds + 1e-5), whole = Math.floor(tenth / 10);
  const pad = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const base = hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
  return tenths ? `${base}.${tenth % 10}` : base;
}

/** Formats a range of seconds as 0:15 – 0:45. */
export const span = (least, most) => [...new Set([least, Math.max(least, most)].map((seconds) => clock(seconds)))].join(" – ");

/** Formats bytes as 12 KB, 3.4 MB. */
export function bytes(count) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) { count /= 1000; unit += 1; }
  return new Intl.NumberFormat(language, { style: "unit", unit: units[unit], unitDisplay: "short", maximumFractionDigits: unit > 1 ? 1 : 0 }).format(count);
}
