// Monitors a live run: picture before and after, controls, and figures.
import { api } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { graph } from "../../lib/graph.js";
import { t, translated } from "../../lib/text.js";
import { badge, button, check, note } from "../../lib/ui.js";
import { change, forget } from "../../lib/undo.js";
import { useChoices } from "../films/controls.js";
import { runControls } from "./controls.js";
import { figuresOf, shortened, troubles } from "./figures.js";
import { personsInView } from "./in_view.js";
import { AT_ONCE, chosenOf, overlayList, stages } from "./overlays.js";
import { personChoice } from "./persons.js";
import { livePicture } from "./picture.js";

const LATENCY = [["p50", "--good", []], ["p95", "--warn", [6, 3]], ["p99", "--bad", [2, 3]]];

export async function mountMonitor(root, run, { changed }) {
  forget();
  const [{ overlays }, choices] = await Promise.all([api.get("/api/live/devices"), api.get("/api/choices")]);
  useChoices(choices);
  const { player, refusal, watch } = livePicture();
  const again = async (settings) => changed(await api.post("/api/live/restart", { settings: { ...settings, ...persons, stages: refused ?? stages(chosen) } }));
  const { settings, power, sliders, remarks, update: updateControls, end: endControls } = runControls(run, ["look", "strength", "light", "cpu_budget"], player, again);
  const films = check(t("live.films_wait"), true, (value) => api.post("/api/live/films_wait", { value }));
  const stop = button(t("live.stop"), async () => changed(await api.post("/api/live/stop")), { kind: "danger" });
  const alerts = h("div", { class: "stack", role: "status" });
  const figures = h("dl", { class: "facts number" });
  const plot = graph(LATENCY, { label: t("live.latency_graph") });
  const seen = personsInView();
  const title = h("h1", {}, t("live.title"));
  const ends = h("p", { class: "quiet-text" });

  function update(now) {
    ends.textContent = [now.source, now.output].map(shortened).join(" → ");
    const status = now.status;
    if (!status) { replace(alerts, note(t("live.starting"))); return; }
    updateControls(status);
    films.show(now.films_wait ?? true);
    seen.update(status.persons);
    replace(alerts, troubles(status).map((text) => note(text, "warn")), status.messages.map((message) => note(translated(message))));
    const { p50, p95, p99 } = status.latency_ms;
    if (p50 !== undefined) plot.add([p50, p95, p99]);
    replace(figures, figuresOf(status));
  }

  const persons = structuredClone({ faces: run.settings.faces ?? "all", person: run.settings.person ?? [] });
  let drawing = run.settings.stages ?? [], redrawing = 0, refused = null; // overlays of the run, as on the server; pending redraws; overlays that need a restart
  const chosen = chosenOf(drawing);
  const trouble = h("div", { class: "stack", "aria-live": "polite" });
  const list = h("div", {});
  const drawOverlays = () => replace(list, overlayList(overlays, chosen, (group, place) => { clearTimeout(redrawing); redrawing = setTimeout(applyOverlays, 400, group, [...list.firstChild.children].indexOf(place)); }, { live: true }));
  const restart = button(t("live.restart"), () => again(settings()), { kind: "small" });

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
  update(run);
  return { end() { clearTimeout(redrawing); watch(false); endControls(); }, update };
}
