// Keyboard shortcuts: each view adds its own while it is shown; "?" lists all that work now.
import { h } from "./dom.js";
import { t } from "./text.js";
import { dialog } from "./ui.js";

const active = new Set();

/** Adds shortcuts {key: [textKey, action]} such as {"ArrowLeft": ["films.key_back", fn], "Ctrl+z": …}; returns their removal. */
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
    const name = `${control ? "Ctrl+" : ""}${control && event.shiftKey ? "Shift+" : ""}${event.key.length === 1 ? event.key.toLowerCase() : event.key}`;
    // Space and arrows belong to the control that has the focus.
    if (event.target.closest?.("button, a, input, [role=slider], [role=tab], summary") && [" ", "Enter", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
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

export function showShortcuts() {
  const rows = [...active].flatMap((table) => Object.entries(table)).map(([key, [text]]) =>
    [h("dt", {}, h("kbd", {}, LABELS[key] ?? key)), h("dd", {}, t(text))]);
  dialog(t("app.keys"), h("dl", { class: "facts" }, rows));
}
