// The persons in view of a live run, each with a picture, a switch and a strength.
import { api, keyed } from "../../lib/api.js";
import { h } from "../../lib/dom.js";
import { t } from "../../lib/text.js";
import { button, check, slider } from "../../lib/ui.js";
import { change } from "../../lib/undo.js";

const PICTURE_S = 2; // seconds after which a picture is fetched again

export function personsInView() {
  const rows = new Map();
  const list = h("ul", { class: "in-view" });
  const empty = h("p", { class: "quiet-text" }, t("live.no_person"));
  const start = h("div", { class: "stack" }, h("p", { class: "quiet-text" }, t("live.tell_apart_help")),
    button(t("live.tell_apart"), async () => update((await api.post("/api/live/persons")).persons), { kind: "small" }));

  const send = async (name, strength) => update((await api.post("/api/live/person", { name, strength })).persons);

  function row(name) {
    const face = h("img", { alt: "", width: 64, height: 64, onload: () => { face.hidden = false; }, onerror: () => { face.hidden = true; } });
    const set = (strength) => {
      const old = one.strength;
      return change(() => send(name, strength), () => send(name, old), { group: `person-${name}` });
    };
    const on = check(t("live.person_on", { name }), true, (value) => set(value ? one.before : 0));
    const strength = slider(t("live.person_strength", { name }), 1, (value, final) => { if (final) set(value); });
    const state = h("span", { class: "quiet-text" });
    const one = { strength: 1, before: 1, asked: -Infinity, element: h("li", {}, h("span", { class: "no-face" }, face),
      h("div", { class: "stack" }, h("div", { class: "row" }, on, state), strength)) };
    one.update = (now) => {
      one.strength = now.strength;
      if (now.strength > 0) one.before = now.strength;
      on.show(now.strength > 0);
      if (document.activeElement !== strength.input) strength.show(now.strength);
      state.textContent = now.in_view ? "" : t("live.out_of_view");
      if (now.in_view && performance.now() - one.asked > PICTURE_S * 1000) {
        one.asked = performance.now();
        face.src = keyed(`/api/live/face?name=${encodeURIComponent(name)}&at=${Math.round(one.asked)}`);
      }
    };
    return one;
  }

  /** Shows the persons from `/status`; null if recognition is off. */
  function update(persons) {
    for (const [name, one] of rows) {
      if (!persons?.some((person) => person.name === name)) {
        one.element.remove();
        rows.delete(name);
      }
    }
    for (const person of persons ?? []) {
      if (!rows.has(person.name)) {
        rows.set(person.name, row(person.name));
        list.append(rows.get(person.name).element);
      }
      rows.get(person.name).update(person);
    }
    start.hidden = persons !== null;
    empty.hidden = persons === null || rows.size > 0;
    list.hidden = rows.size === 0;
  }
  update(null);
  return { element: h("section", { class: "card stack", "aria-label": t("live.in_view") },
    h("strong", {}, t("live.in_view")), start, empty, list), update };
}
