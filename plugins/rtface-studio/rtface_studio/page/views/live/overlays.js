// Overlays of a live run: each has a form of its options once its box is ticked. While a run is on, a button shows it.
import { chooseFile } from "../../lib/chooser.js";
import { h, replace } from "../../lib/dom.js";
import { t, textOr } from "../../lib/text.js";
import { button, check, copyButton, emptyState, field } from "../../lib/ui.js";

export const AT_ONCE = "tag";
const FIRST = { label: { text: "AI-enhanced" } };
const SHOWN = { tag: 1 }, USUAL = 3; // options that are seen at once; the others follow under "More options"
const INSTALL = "python -m pip install ./plugins/rtface-overlays";
const FONTS = /\.(ttf|otf)$/i, ANY = /./;

/**
 * A list of the installed overlays; `chosen` is {name: {on, values: {option: text}}} and is kept up to date; `done(group, place)` is
 * called after each change, with the entry of its overlay in the list; those of one option have one group. With `live` a name tag is drawn
 * once it has a name; of the others a ticked box opens the form only, and a button draws them.
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

/** The control of one option, named by overlay and option; `help` is its text where the catalogue has none. */
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

/** The option `stages` of {name: {on, values}}. */
export const stages = (chosen) => Object.entries(chosen).filter(([, one]) => one.on).map(([name, { values }]) => {
  const given = Object.entries(values ?? {}).map(([key, value]) => `${key}=${value.replaceAll(",", "\\,")}`);
  return given.length ? `${name}:${given.join(",")}` : name;
});

/** {name: {on, values}} of the option `stages`. */
export const chosenOf = (list) => Object.fromEntries(list.map((text) => {
  const at = text.indexOf(":");
  if (at < 0) return [text, { on: true, values: {} }];
  const pairs = text.slice(at + 1).split(/(?<!\\),(?=\s*[A-Za-z][\w-]*=)/).map((pair) => pair.trim().split("="));
  return [text.slice(0, at), { on: true, values: Object.fromEntries(pairs.map(([key, ...value]) => [key.replaceAll("-", "_"), value.join("=").replaceAll("\\,", ",")])) }];
}));
