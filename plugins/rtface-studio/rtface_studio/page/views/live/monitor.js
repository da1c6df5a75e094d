// Monitors a live run: picture before and after, controls, and figures.
import { api } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { graph } from "../../lib/graph.js";
import { shortcuts } from "../../lib/keys.js";
import { watchPreview } from "../../lib/preview.js";
import { clock, number, percent, t, textOr, translated } from "../../lib/text.js";
import { badge, button, check, note, slider } from "../../lib/ui.js";
import { change, forget } from "../../lib/undo.js";
import { wipe } from "../../lib/wipe.js";
import { reasonOf } from "../films/analysis.js";
import { personsInView } from "./in_view.js";
import { AT_ONCE, chosenOf, overlayList, stages } from "./overlays.js";
import { personChoice } from "./persons.js";

const BUSY_MS = 5000;

const LATENCY = [["p50", "--good", []], ["p95", "--warn", [6, 3]], ["p99", "--bad", [2, 3]]];

const PAUSED = { "no viewers": "live.paused_watches", "frames come too late": "live.paused_late", "computer too busy": "live.paused_busy" };

/** Remedies for runs that enhance nothing: a text, and the control that the remedy sets. */
const HELPS = { live_clear: ["films.anyway", "always", true], live_left: ["films.anyway", "always", true], live_dim: ["live.brighten", "light", 0.5] };

/** Translates a remark. Reasons for a pause are recognised by their English text. */
const remarked = ({ code, values, message }) => (code === "live_paused" ? t("live.paused", { why: textOr(PAUSED[values.why], values.why) }) :
  translated({ code, values: code === "live_left" ? { why: reasonOf(values.why) } : values, message }));

const shortened = (address) => (address.startsWith("null:") ? t("live.nowhere") : /^([/\\]|[A-Za-z]:\\)/.test(address) && !address.startsWith("/dev/") ? address.split(/[\\/]/).pop() : address);

/** Describes an output that drops frames, with a remedy. */
const dropping = ({ name, percent: share, cause }) => t("live.dropping", { name: shortened(name), share, why: textOr(`live.dropping_${cause}`, cause) });

/** Describes the problem of a source or output. */
const away = ({ name, state, message }) => (message.values.name ? translated(message) : `${shortened(name)}: ${message.message ? translated(message) : t(`live.state_${state}`)}`); // some messages contain the name

/** Describes the quality levels of faces, such as "full, small key/2", in words. */
const levels = (ladder) => (ladder || "full").split(", ").map((level) => level.split(" ").map((word) => {
  const [name, every] = word.split("/");
  return { full: t("live.level_full"), half: t("live.level_half"), small: t("live.level_small"), key: t("live.level_key", { every }), "pass-through": t("live.level_none") }[name] ?? word;
}).join(", ")).join("; ");

export async function mountMonitor(root, run, { changed }) {
  forget();
  const pictures = ["before", "after"].map((name) => h("canvas", { role: "img", "aria-label": t(`app.wipe_${name}`), width: 16, height: 9 }));
  const player = wipe(...pictures);
  const ending = new AbortController();
  let pairs = 0;
  function show(pair) {
    const width = pair.width / 2, { height } = pair;
    pictures.forEach((canvas, k) => {
      if (canvas.width !== width || canvas.height !== height) {
        Object.assign(canvas, { width, height });
        player.element.style.setProperty("--aspect", `${width} / ${height}`);
      }
      canvas.getContext("2d").drawImage(pair, k * width, 0, width, height, 0, 0, width, height);
    });
    replace(refusal);
    player.element.dataset.pairs = ++pairs;
  }
  const refusal = h("div", { class: "stack", role: "status" });
  let watching = null;
  function watch() {
    watching = new AbortController();
    watchPreview("/api/live/preview", show, watching.signal, (why) => replace(refusal, note(why, "warn")));
  }

  const { strength = 1, light = 0, cpu_budget = 1 } = run.settings;
  const values = { enabled: true, always: run.settings.correct === "always", strength, light, cpu_budget };
  async function send(name, value) {
    Object.assign(values, await api.post("/api/live/set", { name, value }));
    draw();
  }
  const set = (name, value) => {
    const old = values[name];
    return change(() => send(name, value), () => send(name, old), { group: `live-${name}` }).catch((error) => { sliders[name]?.show(values[name]); throw error; });
  };
  const sliders = Object.fromEntries(["strength", "light", "cpu_budget"].map((name) =>
    [name, slider(t(name === "strength" ? "films.strength" : `live.${name}`), values[name], (value, final) => { if (final) set(name, value); }, { min: name === "cpu_budget" ? 0.05 : 0 })]));
  const films = check(t("live.films_wait"), true, (value) => api.post("/api/live/films_wait", { value }));
  const power = button(t("tray.enhance"), () => set("enabled", !values.enabled), { kind: "live-power", role: "switch" });
  const stop = button(t("live.stop"), async () => changed(await api.post("/api/live/stop")), { kind: "danger" });
  const remarks = h("div", { class: "stack live-remarks", role: "status" });
  let told = [], shownRemarks = ""; // remarks of the run, and those that are shown
  let busy = "", busyUntil = 0; // reduced quality level; shown for some seconds, because it changes often
  const alerts = h("div", { class: "stack", role: "status" });
  const figures = h("dl", { class: "facts number" });
  const plot = graph(LATENCY, { label: t("live.latency_graph") });
  const seen = personsInView();
  const title = h("h1", {}, t("live.title"));
  const ends = h("p", { class: "quiet-text" });

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

  function update(now) {
    ends.textContent = [now.source, now.output].map(shortened).join(" → ");
    const status = now.status;
    if (!status) { replace(alerts, note(t("live.starting"))); return; }
    for (const name of Object.keys(values)) values[name] = status[name];
    draw();
    films.show(now.films_wait ?? true);
    told = status.remarks ?? [];
    if (status.ladder && !status.paused) [busy, busyUntil] = [levels(status.ladder.split(", ").filter((level) => level !== "full").join(", ")), Date.now() + BUSY_MS];
    else if (status.paused || Date.now() > busyUntil) busy = "";
    drawRemarks();
    const troubles = [...status.losses.map(dropping),
      ...[status.source, status.sound, ...status.sinks].filter((end) => end && end.state !== "live" && !end.name.startsWith("null:")).map(away)];
    seen.update(status.persons);
    replace(alerts, troubles.map((text) => note(text, "warn")), status.messages.map((message) => note(translated(message))));
    const { p50, p95, p99 } = status.latency_ms;
    if (p50 !== undefined) plot.add([p50, p95, p99]);
    const dropped = Object.values(status.dropped).reduce((a, b) => a + b, 0);
    replace(figures, [
      ["live.fps", number(status.fps, 1)], ["live.faces", number(status.faces)],
      ["live.latency", p50 === undefined ? "–" : `${number(p50)} / ${number(p95)} / ${number(p99)} ms`],
      ["live.dropped", number(dropped)],
      ["live.level", levels(status.ladder)],
      ["live.processor", status.cpu_share === null ? "–" : percent(status.cpu_share)],
      ["live.left", status.cpu_share === null ? "–" : percent(Math.max(0, status.cpu_budget - status.cpu_share))],
      ["live.time", clock(status.seconds)],
      ...status.sinks.filter((end) => !end.name.startsWith("null:")).map((end) => [null, end.frames, end.name])].map(([key, value, name]) =>
        [h("dt", {}, key ? t(key) : t("live.frames_to", { name: shortened(name) })), h("dd", {}, value)]));
  }

  const { overlays } = await api.get("/api/live/devices");
  watch();
  const persons = structuredClone({ faces: run.settings.faces ?? "all", person: run.settings.person ?? [] });
  let drawing = run.settings.stages ?? [], redrawing = 0, refused = null; // overlays of the run, as on the server; pending redraws; overlays that need a restart
  const chosen = chosenOf(drawing);
  const trouble = h("div", { class: "stack", "aria-live": "polite" });
  const list = h("div", {});
  const drawOverlays = () => replace(list, overlayList(overlays, chosen, (group, place) => { clearTimeout(redrawing); redrawing = setTimeout(applyOverlays, 400, group, [...list.firstChild.children].indexOf(place)); }, { live: true }));
  const restart = button(t("live.restart"), async () => {
    const { enabled, always, ...now } = values;
    await changed(await api.post("/api/live/restart", { settings: { ...run.settings, ...now, ...persons, correct: always ? "always" : "auto", stages: refused ?? stages(chosen) } }));
  }, { kind: "small" });

  /** Applies the chosen overlays to the run. Shows errors below the overlay that was changed. */
  async function applyOverlays(group, at) {
    const wanted = stages(chosen), before = drawing;
    try {
      await change(() => overlaysNow(wanted), () => overlaysNow(before), { group });
      if (wanted.length > before.length) player.set(0); // otherwise the wipe could hide the new overlay, because the left side shows the input
    } catch (error) {
      refused = wanted;
      const drawn = chosenOf(drawing), off = Object.keys(chosen).filter((name) => chosen[name].on && !drawn[name] && name !== AT_ONCE); // its text is being typed
      for (const name of off) chosen[name].on = false;
      if (off.length) drawOverlays();
      list.firstChild.children[at].append(trouble);
      replace(trouble, note([h("p", {}, error.message), error.kind === "RestartNeeded" ? restart : null], "warn"));
    }
  }
  async function overlaysNow(wanted) {
    drawing = (await api.post("/api/live/overlays", { stages: wanted })).stages;
    replace(trouble);
    refused = null;
    if (stages(chosen).join() === wanted.join()) return;
    for (const one of Object.values(chosen)) one.on = one.open = false; // after undo or redo, the forms must show the new state
    Object.assign(chosen, chosenOf(wanted));
    drawOverlays();
  }
  drawOverlays();
  const drawn = [
    h("details", { class: "card stack", open: drawing.length > 0 }, h("summary", {}, h("strong", {}, t("live.overlays"))), list),
    h("details", { class: "card stack", open: persons.faces !== "all" }, h("summary", {}, h("strong", {}, t("live.persons"))),
      personChoice(persons), h("p", { class: "quiet-text" }, t("live.restarts")), button(t("live.apply"), () => restart.click(), { kind: "small" }))];
  const controls = h("aside", { class: "card stack", "aria-label": t("films.controls") }, h("div", { class: "row" }, power, stop),
    Object.values(sliders), films,
    run.output.startsWith("vcam:") ? h("p", { class: "quiet-text" }, t("live.in_call")) : null,
    run.settings.also ? h("p", {}, badge(t("live.recording", { name: run.settings.also.split(/[\\/]/).pop() }), "bad")) : null);
  const numbers = h("details", { class: "card" }, h("summary", {}, h("strong", {}, t("live.figures"))), h("div", { class: "stack" }, figures,
    h("div", { class: "row live-legend" }, LATENCY.map(([name]) => h("span", { class: `live-key ${name}` }, t(`live.latency_${name}`))), h("span", { class: "quiet-text" }, "ms")), plot.element));
  replace(root, h("div", { class: "head" }, title, ends), h("div", { class: "live-columns" },
    h("div", { class: "stack" }, player.element, remarks), h("div", { class: "stack live-side" }, controls, refusal, alerts, seen.element, drawn), numbers));
  const endKeys = shortcuts({
    " ": ["live.key_toggle", () => power.click()],
    "+": ["live.key_stronger", () => set("strength", Math.min(1, values.strength + 0.1))],
    "-": ["live.key_weaker", () => set("strength", Math.max(0, values.strength - 0.1))],
    b: ["films.key_before", () => player.only("before")],
  });
  addEventListener("keyup", (event) => { if (event.key === "b") player.only(null); }, { signal: ending.signal });
  draw();
  update(run);
  return { end() { clearTimeout(redrawing); ending.abort(); watching.abort(); endKeys(); }, update };
}
