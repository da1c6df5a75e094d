// Controls of a live run that apply from the next frame on: the switch, sliders, keys, and remarks with a remedy.
import { api } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { shortcuts } from "../../lib/keys.js";
import { t, textOr, translated } from "../../lib/text.js";
import { button, note, radios, slider, toast } from "../../lib/ui.js";
import { change } from "../../lib/undo.js";
import { reasonOf } from "../films/analysis.js";
import { DEFAULTS, wordsOf } from "../films/controls.js";
import { levels } from "./figures.js";

const BUSY_MS = 5000;

const PAUSED = { "no viewers": "live.paused_watches", "frames come too late": "live.paused_late", "computer too busy": "live.paused_busy" };

/** Remedies for runs that enhance nothing: a text, and the control that the remedy sets. */
const HELPS = { live_clear: ["films.anyway", "always", true], live_left: ["films.anyway", "always", true], live_dim: ["live.brighten", "light", 0.8] };

/** Translates a remark. Reasons for a pause are recognised by their English text. */
const remarked = ({ code, values, message }) => (code === "live_paused" ? t("live.paused", { why: textOr(PAUSED[values.why], values.why) }) :
  translated({ code, values: code === "live_left" ? { why: reasonOf(values.why) } : values, message }));

/**
 * The controls of a run: `power`, `sliders` by name (one is the look), and `remarks` are elements; `settings()` returns the run's settings with the current values. Call
 * `update(status)` with each new status, and `end()` when the view is left. The key "b" shows only the input in `player`. `renew(settings)` restarts the run, if a change
 * needs that. With `plain`, the remarks contain no quality level.
 */
export function runControls(run, names, player, renew, plain = false) {
  const { strength = 1, light = 0, cpu_budget = 1, look = DEFAULTS.look } = run.settings;
  const values = { enabled: true, always: run.settings.correct === "always", strength, light, cpu_budget, look };
  const settings = () => { const { enabled, always, ...now } = values; return { ...run.settings, ...now, correct: always ? "always" : "auto" }; };
  const ending = new AbortController();
  async function send(name, value) {
    Object.assign(values, await api.post("/api/live/set", { name, value }));
    draw();
  }
  const set = (name, value) => {
    const old = values[name];
    return change(() => send(name, value), () => send(name, old), { group: `live-${name}` }).catch((error) => {
      sliders[name]?.show(old);
      if (error.kind !== "RestartNeeded") throw error;
      toast(error.message, { seconds: 12, action: button(t("live.restart"), () => renew({ ...settings(), [name]: value }), { kind: "small" }) });
    });
  };
  const sliders = Object.fromEntries(names.map((name) =>
    [name, name === "look" ? radios(t("films.look"), wordsOf(name), look, (value) => set(name, value), { help: t("films.look_help") }) : slider(t(name === "strength" ? "films.strength" : `live.${name}`), values[name], (value, final) => { if (final) set(name, value); }, { min: name === "cpu_budget" ? 0.05 : 0 })]));
  const power = button(t("tray.enhance"), () => set("enabled", !values.enabled), { kind: "live-power", role: "switch" });
  const remarks = h("div", { class: "stack live-remarks", role: "status" });
  let told = [], shownRemarks = ""; // remarks of the run, and those that are shown
  let busy = "", busyUntil = 0; // reduced quality level; shown for some seconds, because it changes often

  function draw() {
    power.setAttribute("aria-checked", String(values.enabled));
    drawRemarks();
    for (const [name, control] of Object.entries(sliders)) if (document.activeElement !== control.input) control.show(values[name]);
  }

  function drawRemarks() {
    const key = JSON.stringify([told, values.always, Boolean(values.light), busy]);
    if (key === shownRemarks) return; // so that a button keeps the focus while nothing changes
    shownRemarks = key;
    const line = (text, label, name, value, kind = "") => note(h("div", { class: "row" }, h("span", {}, text), label ? button(t(label), () => set(name, value), { kind: "small" }) : null), kind);
    replace(remarks, told.filter(({ code }) => !values[HELPS[code]?.[1]]).map((remark) => line(remarked(remark), ...(HELPS[remark.code] ?? [null, "", 0, remark.code === "live_no_face" ? "" : "warn"]))),
      busy ? line(t("live.busy", { how: busy })) : null, values.always ? line(t("live.always"), "live.always_off", "always", false) : null);
  }

  function update(status) {
    for (const name of Object.keys(values)) values[name] = status[name];
    told = status.remarks ?? [];
    if (status.ladder && !status.paused && !plain) [busy, busyUntil] = [levels(status.ladder.split(", ").filter((level) => level !== "full").join(", ")), Date.now() + BUSY_MS];
    else if (status.paused || Date.now() > busyUntil) busy = "";
    draw();
  }

  const endKeys = shortcuts({
    " ": ["live.key_toggle", () => power.click()],
    "+": ["live.key_stronger", () => set("strength", Math.min(1, values.strength + 0.1))],
    "-": ["live.key_weaker", () => set("strength", Math.max(0, values.strength - 0.1))],
    b: ["films.key_before", () => player.only("before")],
  });
  addEventListener("keyup", (event) => { if (event.key === "b") player.only(null); }, { signal: ending.signal });
  draw();
  return { settings, power, sliders, remarks, update, end() { ending.abort(); endKeys(); } };
}
