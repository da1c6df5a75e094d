// Components that all views use.
import { h, newId } from "./dom.js";
import { t } from "./text.js";

/** A button; `kind` is a list of "primary", "danger", "quiet", "small". While an async `action` runs it is disabled. @param {any} label @param {(event: Event) => any} action @param {{ kind?: string, [name: string]: any }} [options] */
export function button(label, action, { kind = "", ...properties } = {}) {
  const element = h("button", { type: "button", class: ["button", kind], ...properties }, label);
  element.addEventListener("click", async (event) => {
    element.disabled = true;
    try {
      await action(event);
    } catch (error) {
      if (error.name !== "AbortError") showError(error);
    } finally {
      element.disabled = properties.disabled ?? false;
    }
  });
  return element;
}

/** A control with its label and a line of help. `output` is shown at the end of the label, for example a slider's value. */
export function field(label, control, { help = null, output = null } = {}) {
  control.id ||= newId("field");
  const described = help && newId("help");
  if (described) control.setAttribute("aria-describedby", described);
  const fault = h("span", { class: "help bad", id: newId("fault"), role: "alert", hidden: true });
  const element = h("div", { class: "field" }, h("label", { for: control.id }, label, output), control,
    help && h("span", { class: "help", id: described }, help), fault);
  /** Shows an error below the control until its value is changed. */
  element.fault = (text) => {
    fault.textContent = text;
    fault.hidden = false;
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-describedby", [described, fault.id].filter(Boolean).join(" "));
    control.addEventListener("input", () => {
      fault.hidden = true;
      control.removeAttribute("aria-invalid");
    }, { once: true });
    control.focus();
  };
  return element;
}

/** A slider that shows its value, by default from 0 to 1 as a percentage. Calls `changed(value, final)` while and after it moves. */
export function slider(label, value, changed, { help = null, step = 0.05, format = (v) => `${Math.round(v * 100)} %`, min = 0, max = 1 } = {}) {
  const output = h("output", { class: "number" }, format(value));
  const input = h("input", { type: "range", min, max, step });
  const show = (now) => { input.value = now; output.textContent = format(now); input.setAttribute("aria-valuetext", format(now)); };
  show(value);
  input.addEventListener("input", () => { show(Number(input.value)); changed(Number(input.value), false); });
  input.addEventListener("change", () => changed(Number(input.value), true));
  return Object.assign(field(label, input, { help, output }), { show, input });
}

/** A drop-down list of [value, label] pairs. Adds the current value if no pair has it, because it may come from a settings file. */
export function select(label, pairs, value, changed, { help = null } = {}) {
  const control = h("select", { onchange: () => changed(control.value) }, pairs.map(([key, text]) => h("option", { value: key }, text)));
  const show = (now) => {
    control.value = now;
    if (control.selectedIndex >= 0) return;
    control.append(h("option", { value: now }, now));
    control.value = now;
  };
  show(value);
  return Object.assign(field(label, control, { help }), { show, control });
}

/** A group of radio buttons for [value, label] pairs. */
export function radios(label, pairs, value, changed, { help = null } = {}) {
  const name = newId("choice"), described = help && newId("help");
  const inputs = pairs.map(([key]) => h("input", { type: "radio", name, value: key, onchange: () => changed(key) }));
  const show = (now) => { for (const input of inputs) input.checked = input.value === now; };
  show(value);
  return Object.assign(h("fieldset", { class: "field radios", "aria-describedby": described }, h("legend", {}, label),
    h("div", {}, pairs.map(([, text], k) => h("label", {}, inputs[k], text))), help && h("span", { class: "help", id: described }, help)), { show });
}

/** A button that copies the result of `text()` to the clipboard. */
export const copyButton = (text) => button(t("app.copy"), async () => {
  await navigator.clipboard.writeText(text());
  toast(t("app.copied"));
}, { kind: "small" });

/** Returns [value, label] pairs for the engines to choose from. */
export const engineChoices = (engines) => [["default", t("films.engine_default")],
  ...engines.filter((name) => name !== "rtface-m").map((name) => [name, name === "rtface-s" ? t("films.engine_light") : name])];

/** A check box. */
export function check(label, value, changed) {
  const input = h("input", { type: "checkbox", checked: value, onchange: () => changed(input.checked) });
  return Object.assign(h("label", { class: "check" }, input, label), { show: (now) => { input.checked = now; }, input });
}

export const badge = (text, kind = "") => h("span", { class: ["badge", kind] }, text);
export const note = (children, kind = "") => h("div", { class: ["note", kind], role: kind === "bad" ? "alert" : null }, children);

/** The content of an empty view: a title, a hint and controls. */
export const emptyState = (title, hint, ...controls) =>
  h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, hint), h("div", { class: "row" }, controls));

/** Opens a dialog with a title. Escape, its button or `close()` closes it. Returns its element. */
export function dialog(title, ...children) {
  const id = newId("dialog");
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  const element = h("dialog", { "aria-labelledby": id }, h("div", { class: "stack" },
    h("div", { class: "row", style: { "justify-content": "space-between" } }, h("h2", { id }, title),
      button(t("app.close"), () => element.close(), { kind: "quiet" })), children));
  element.addEventListener("close", () => { element.remove(); before?.focus?.(); });
  document.body.append(element);
  element.showModal();
  return element;
}

/** Asks before an irreversible action. Resolves to true or false. `back` is the label of the button that cancels. */
export function confirm(title, text, action, back = t("app.back")) {
  return new Promise((resolve) => {
    let answer = false;
    const element = dialog(title, h("p", {}, text), h("div", { class: "row" },
      button(action, () => { answer = true; element.close(); }, { kind: "danger" }),
      button(back, () => element.close(), { autofocus: true })));
    element.querySelector("h2 + button").remove(); // not needed: there are two buttons, and Escape
    element.addEventListener("close", () => resolve(answer));
  });
}

/** Returns the element for messages. It is in the open dialog, if any, because the page behind a dialog cannot be clicked. */
function toasts() {
  const home = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  return home.querySelector(":scope > .toasts") ?? home.appendChild(h("div", { class: "toasts", role: "status", "aria-live": "polite" }));
}

/** Shows a short message in the corner for some seconds. */
export function toast(text, { kind = "", seconds = 6, action = null } = {}) {
  for (const other of document.querySelectorAll(".toast")) if (other.firstChild.textContent === text) other.remove(); // a repeated message replaces the earlier one
  const element = h("div", { class: ["toast", kind] }, h("span", {}, text), action,
    button("×", () => element.remove(), { kind: "quiet small", "aria-label": t("app.close") }));
  const container = toasts();
  if (container.parentElement !== document.body) container.replaceChildren(); // in a dialog, only the last message applies
  container.append(element);
  setTimeout(() => element.remove(), seconds * 1000);
  return element;
}

export const showError = (error) => toast(error.message ?? String(error), { kind: "bad", seconds: 12 });
