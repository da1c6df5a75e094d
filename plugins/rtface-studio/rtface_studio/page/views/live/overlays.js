// Overlays of a live run. A ticked box opens the form of its options. During a run, a button shows the overlay.
import { chooseFile } from "../../lib/chooser.js";
import { h, replace } from "../../lib/dom.js";
import { t, textOr } from "../../lib/text.js";
import { button, check, copyButton, emptyState, field } from "../../lib/ui.js";

export const AT_ONCE = "tag";
const FIRST = { label: { text: "AI-enhanced" } };
const SHOWN = { tag: 1 }, USUAL = 3; // number of options that are shown at once; others are under "More options"
const INSTALL = "python -m pip install ./plugins/rtface-overlays";
const FONTS = /\.(ttf|otf)$/i, ANY = /./;

/**
 * A list of the installed overlays. `chosen` is {name: {on, values: {option: text}}}; changes are written to it. Calls `done(group, place)`
 * after each change: `group` identifies the changed option, `place` is the overlay's entry in the list. With `live`, a name tag is drawn as soon
 * as it has a name; for other overlays, a ticked box only opens the form, and a button draws them.
 * @param {any[]} overlays @param {Record<string, any>} chosen @param {(group: any, place: HTMLElement) => void} [done] @param {{ live?: boolean }} [options]
 */
export function overlayList(overlays, chosen, done = () => {}, { live = false } = {}) {
  if (!overlays.length) return emptyState(t("live.no_overlays"), t("live.no_overlays_hint"), h("code", {}, INSTALL), copyButton(() => INSTALL));
  return h("ul", { class: "live-overlays" }, overlays.map((overlay) => {
    const one = chosen[overlay.name] ??= { on: false, values: { ...FIRST[overlay.name] } };
    one.values ??= {};
    one.open = one.on || (live && one.open);
    const form = h("div", { class: "stack live-overlay-form" }), place = h("li", { class: "live-overlay" }), waits = live && overlay.name !== AT_ONCE;
    const air = (now, group = null) => { if (one.on || now) { one.on = now; done(group, place); } };
    const told = (group) => air(one.open && (waits ? one.on : !live || Object.keys(one.values).length > 0), group);
    const shown = () => button(t(one.on ? "live.overlay_hide" : "live.overlay_show", { name: labelOf(overlay.name) }), () => { air(!one.on); draw(); }, { kind: one.on ? "small" : "small primary" });
    const draw = () => replace(form, one.open ? [fields(overlay, one.values, told), waits ? shown() : null] : null);
    draw();
    place.append(check(labelOf(overlay.name), one.open, (now) => {
      one.open = now;
      told(null);
      draw();
      if (live && now) form.querySelector("input")?.focus();
    }),
      h("p", { class: "quiet-text" }, textOr(`overlays.${overlay.name}`, overlay.help)), form);
    return place;
  }));
}

function fields(overlay, values, done) {
  const all = overlay.options.map((option) => control(overlay.name, option, values, done));
  const shown = SHOWN[overlay.name] ?? USUAL;
  return [all.slice(0, shown), all.length > shown ? h("details", { class: "more" }, h("summary", {}, t("live.overlay_more")),
    h("div", { class: "stack" }, all.slice(shown))) : null];
}

const labelOf = (name) => textOr(`overlay_words.${name}`, name);

/** The control of an overlay's option. `help` is its text if the catalogue has none. */
function control(overlay, { name, help, kind, words, default: usual, needed }, values, done) {
  const set = (value) => {
    if (value === "" || (value === usual && !needed)) delete values[name]; else values[name] = value;
    done(`${overlay}-${name}`);
  };
  const now = values[name] ?? usual, label = t("live.overlay_option", { overlay: labelOf(overlay), option: labelOf(name) });
  if (kind === "flag") {
    const box = check(labelOf(name), now === "true", (on) => set(String(on)));
    box.input.setAttribute("aria-label", label);
    return box;
  }
  const input = kind === "words" ?
    h("select", { "aria-label": label, onchange: () => set(input.value) }, words.map((word) => h("option", { value: word, selected: word === now }, textOr(`overlay_words.value_${word}`, word)))) :
    h("input", { type: "text", inputmode: kind === "number" ? "decimal" : null, value: now, spellcheck: "false", "aria-label": label, required: needed, oninput: () => set(input.value.trim()) });
  const shown = field(labelOf(name), input, { help: textOr(`overlays.${overlay}.${name}`, help) });
  if (kind === "file") shown.append(button(t("app.choose_file"), () => chooseFile((path) => { input.value = path; set(path); }, name === "font" ? FONTS : ANY), { kind: "small" }));
  return shown;
}

/** Converts {name: {on, values}} to the option `stages`. */
export const stages = (chosen) => Object.entries(chosen).filter(([, one]) => one.on).map(([name, { values }]) => {
  const given = Object.entries(values ?? {}).map(([key, value]) => `${key}=${value.replaceAll(",", "\\,")}`);
  return given.length ? `${name}:${given.join(",")}` : name;
});

/** Converts the option `stages` to {name: {on, values}}. */
export const chosenOf = (list) => Object.fromEntries(list.map((text) => {
  const at = text.indexOf(":");
  if (at < 0) return [text, { on: true, values: {} }];
  const pairs = text.slice(at + 1).split(/(?<!\\),(?=\s*[A-Za-z][\w-]*=)/).map((pair) => pair.trim().split("="));
  return [text.slice(0, at), { on: true, values: Object.fromEntries(pairs.map(([key, ...value]) => [key.replaceAll("-", "_"), value.join("=").replaceAll("\\,", ",")])) }];
}));
