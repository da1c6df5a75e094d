// Overlays of a live run: each is switched on by its box, and has a line of options.
import { h } from "../../lib/dom.js";
import { t } from "../../lib/text.js";
import { check, emptyState } from "../../lib/ui.js";

const FIRST = { label: "text=AI-enhanced", tag: "name=Anna", "lower-third": "title=Anna" };

/** A list of the installed overlays; `chosen` is {name: {on, text}} and is kept up to date. */
export function overlayList(overlays, chosen) {
  if (!overlays.length) return emptyState(t("live.no_overlays"), t("live.no_overlays_hint"));
  return h("ul", { class: "live-overlays" }, overlays.map(({ name, help }) => {
    const one = chosen[name] ??= { on: false, text: FIRST[name] ?? "" };
    const options = h("input", { type: "text", value: one.text, spellcheck: "false", "aria-label": t("live.overlay_options", { name }),
      oninput: () => { one.text = options.value; } });
    return h("li", { class: "live-overlay" }, check(name, one.on, (now) => { one.on = now; }), options,
      h("details", {}, h("summary", {}, t("live.overlay_help")), h("pre", { tabindex: 0 }, help)));
  }));
}

/** The option `stages` of {name: {on, text}}. */
export const stages = (chosen) => Object.entries(chosen).filter(([, one]) => one.on).map(([name, one]) => (one.text ? `${name}:${one.text}` : name));

/** {name: {on, text}} of the option `stages`. */
export const chosenOf = (list) => Object.fromEntries(list.map((text) => {
  const at = text.indexOf(":");
  return at < 0 ? [text, { on: true, text: "" }] : [text.slice(0, at), { on: true, text: text.slice(at + 1) }];
}));
