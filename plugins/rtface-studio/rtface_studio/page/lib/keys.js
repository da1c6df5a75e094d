// Keyboard shortcuts. Each view adds its own while it is shown. "?" lists all active shortcuts.
import { h } from "./dom.js";
import { t } from "./text.js";
import { dialog } from "./ui.js";

const active = new Set();

/** Adds shortcuts {key: [textKey, action]} such as {"ArrowLeft": ["films.key_back", fn], "Ctrl+z": …}; returns a function that removes them. */
export function shortcuts(table) {
  active.add(table);
  return () => active.delete(table);
}

const typing = (target) => target.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]");

export function listenForKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const control = event.ctrlKey || event.metaKey;
    if (event.altKey || (typing(event.target) && !control)) return;
    const shift = event.shiftKey && (control || event.key.startsWith("Arrow"));
    const name = `${control ? "Ctrl+" : ""}${shift ? "Shift+" : ""}${event.key.length === 1 ? event.key.toLowerCase() : event.key}`;
    // The focused control handles Space and arrows. Arrows with Shift are left only to input fields.
    if (/** @type {Element} */ (event.target).closest?.(shift ? "input" : "button, a, input, [role=slider], [role=tab], summary") && [" ", "Enter", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
    for (const table of [...active].reverse()) {
      if (table[name]) {
        event.preventDefault();
        table[name][1](event);
        return;
      }
    }
  });
}

const LABELS = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };
const label = (key) => key.split("+").map((part) => LABELS[part] ?? part).join("+");

export function showShortcuts() {
  const keys = new Map(); // keys by text
  for (const [key, [text]] of [...active].flatMap((table) => Object.entries(table))) keys.set(text, [...keys.get(text) ?? [], key]);
  dialog(t("app.keys"), h("dl", { class: "facts" }, [...keys].map(([text, all]) =>
    [h("dt", {}, all.map((key) => [h("kbd", {}, label(key)), " "])), h("dd", {}, t(text))])));
}
