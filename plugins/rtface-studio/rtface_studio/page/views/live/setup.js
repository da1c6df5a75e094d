// Setting up a live run: source, output, recording, engine, overlays, and presets by name.
import { api } from "../../lib/api.js";
import { chooseFilm } from "../../lib/chooser.js";
import { h, replace } from "../../lib/dom.js";
import { t, translated } from "../../lib/text.js";
import { button, check, confirm, copyButton, engineChoices, field, note, radios, select, slider, toast } from "../../lib/ui.js";
import { useChoices, wordsOf } from "../films/controls.js";
import { overlayList, stages } from "./overlays.js";
import { learntPersons } from "./learn.js";
import { personChoice } from "./persons.js";

export const LAST_CALL = "last call"; // name of the preset that the view "call" stores
const remembered = { source: "", output: "", settings: {} }; // values that are kept while the page is open

export async function mountSetup(root, run, { changed }) {
  let [{ devices, overlays }, { presets }, { folders }, choices, persons] = await Promise.all(
    [api.get("/api/live/devices"), api.get("/api/live/presets"), api.get("/api/files"), api.get("/api/choices"), api.get("/api/persons")]);
  const values = remembered;
  if (!values.source && run.source) kinds(Object.assign(values, { source: whole(run.source), output: whole(run.output) })); // the page was reloaded
  const error = h("div", { "aria-live": "polite" });
  const form = h("div", { class: "live-setup" });
  let learnt = { end() {} };
  const virtual = virtualCamera(again);

  const draw = () => {
    const whose = personChoice(values.settings);
    learnt.end();
    learnt = learntPersons(persons, values.settings, devices, (now) => { persons = now; whose.show(); });
    replace(form,
    h("section", { class: "card stack live-source" }, h("h2", {}, t("live.source")), source(devices, values, draw, again)),
    h("section", { class: "card stack live-output" }, h("h2", {}, t("live.output")), output(devices, values, folders, draw, virtual)),
    h("section", { class: "card stack" }, h("h2", {}, t("live.look")), look(values, choices)),
    further("learnt", (values.settings.person ?? []).some((one) => !one.includes("=")), learnt.element),
    further("persons", (values.settings.faces ?? "all") !== "all", whose),
    further("overlays", Object.values(values.settings.stages ??= {}).some((one) => one.on), overlayList(overlays, values.settings.stages)),
    further("presets", Object.keys(presets).length > 0, kept));
  };

  const opened = new Set();
  /** A part that is closed at first. */
  const further = (name, used, content) => h("details", { class: "card live-wide", open: used || opened.has(name), ontoggle: (event) => opened[event.target.open ? "add" : "delete"](name) },
    h("summary", {}, h("strong", {}, t(`live.${name}`))), content);

  async function again() {
    ({ devices } = await api.get("/api/live/devices"));
    const camera = devices.find(({ kind }) => kind === "virtual camera");
    if (camera && virtual.isConnected) values.output = camera.address; // the user has looked for a virtual camera
    draw();
    return camera;
  }

  async function begin(to) {
    const missing = ["source", "output"].find((end) => !{ ...values, output: to }[end]?.trim()); // only typed addresses can be empty
    if (missing) return form.querySelector(`.live-${missing} .field:has(input)`).fault(t(`live.no_${missing}`));
    try {
      await changed(await api.post("/api/live/start", { source: values.source, output: to, settings: tidy(values.settings) }));
    } catch (failure) {
      replace(error, note(failure.message, "bad"));
      error.scrollIntoView({ block: "nearest" });
    }
  }
  const kept = h("div", { class: "row" });
  drawPresets(kept, presets, values, draw);
  replace(root, h("div", { class: "head" }, h("h1", {}, t("live.title")), h("div", { class: "row" },
    button(t("live.look_first"), () => begin("null:"), { title: t("live.look_first_hint") }), button(t("live.start"), () => begin(values.output), { kind: "primary" }))),
    h("p", {}, t("live.lead")), error, form);
  draw();

  function update(now) {
    replace(error, now.state === "failed" ? note([h("p", {}, h("strong", {}, t("live.failed"))), h("p", {}, translated(now.error))], "bad") : null);
  }
  update(run);
  return { end() { learnt.end(); }, update };
}

/** Returns an address of a run; "" if the server has removed a secret from it. */
const whole = (address) => (address.includes("…") ? "" : address);

/** Sets whether addresses that are not devices are films or streams. */
function kinds(values) {
  for (const key of ["source", "output"]) values[`${key}Kind`] = /^\w+:\/\//.test(values[key]) ? "stream" : values[key] ? "film" : undefined;
}

const tidy = (settings) => ({ ...settings, stages: stages(settings.stages ?? {}) });

/** A choice of devices and typed addresses. */
function choice(label, offered, kinds, values, key, draw) {
  const known = offered.map(([address]) => address);
  const kind = known.includes(values[key]) ? values[key] : values[`${key}Kind`] ?? offered[0]?.[0] ?? kinds[0][0];
  if (!values[key] && known.includes(kind)) values[key] = kind;
  values[`${key}Kind`] = kind;
  return [select(label, [...offered, ...kinds], kind, (now) => {
    values[`${key}Kind`] = now;
    values[key] = known.includes(now) ? now : "";
    draw();
  }), kind];
}

function typed(label, values, key, help) {
  const input = h("input", { type: "text", value: values[key] ?? "", spellcheck: "false", oninput: () => { values[key] = input.value; } });
  return field(label, input, { help });
}

function source(devices, values, draw, again) {
  const found = devices.filter((one) => one.kind === "camera").map((one) => [one.address, `${one.name} (${one.address})`]);
  const cameras = found.length ? found : [["camera:", t("live.camera")]]; // a placeholder, if there is no camera
  if (found.length && values.sourceKind === "camera:") values.source = values.sourceKind = found[0][0];
  const [control, kind] = choice(t("live.source_from"), cameras, [["film", t("live.film")], ["stream", t("live.stream")]], values, "source", draw);
  if (kind !== "film") delete values.settings.loop;
  return [control,
    kind !== "camera:" ? null : note([h("p", {}, t("live.no_camera")), button(t("live.no_camera_hint"), again, { kind: "small" })]),
    kind === "stream" ? typed(t("live.address"), values, "source", t("live.source_help")) : null,
    kind === "film" ? [typed(t("live.path"), values, "source", t("live.film_help")),
      button(t("films.choose"), () => chooseFilm((path) => { values.source = path; draw(); }), { kind: "small" }),
      check(t("live.loop"), Boolean(values.settings.loop), (on) => { values.settings.loop = on; })] : null];
}

/** Explains how to get a virtual camera: the finding of the check, commands to copy, and a button that looks again. With `open`, shows all of this without a click. */
export function virtualCamera(again, open = false) {
  const steps = h("div", { class: "stack", role: "status" }), step = (text, line) => h("li", {}, h("div", { class: "stack" }, h("span", {}, text), line ? h("div", { class: "row" }, h("code", {}, line), copyButton(() => line)) : null));
  const more = button(t("live.no_virtual_camera_hint"), async () => {
    const found = (await api.get("/api/health")).findings.filter(({ name, repair }) => repair && name === "vcam");
    const options = found.map(({ command }) => /modprobe v4l2loopback (.+)/.exec(command ?? "")?.[1]).find(Boolean);
    replace(steps, h("ol", { class: "stack" }, found.map(({ command, messages }) => step(command ? t("live.camera_line") : translated(messages.repair), command)),
      options ? step(t("live.camera_stays"), `echo v4l2loopback | sudo tee /etc/modules-load.d/rtface.conf; echo options v4l2loopback ${options} | sudo tee /etc/modprobe.d/rtface.conf`) : null, step(t("live.camera_then"))),
    button(t("live.no_camera_hint"), async () => { if (!await again()) toast(t("live.no_virtual_camera")); }, { kind: "small" }));
  }, { kind: "small" });
  replace(steps, more);
  if (open) more.click();
  return note([h("p", {}, t("live.no_virtual_camera")), steps]);
}

function output(devices, values, folders, draw, virtual) {
  const shown = (wanted) => devices.filter((one) => one.kind === wanted).map((one) => [one.address, `${one.name} (${one.address})`]);
  const cameras = shown("virtual camera");
  const [control, kind] = choice(t("live.output_to"), [...cameras, ["null:", t("live.only_look")], ...shown("output")],
    [["stream", t("live.stream")], ["film", t("live.file")]], values, "output", draw);
  const record = h("input", { type: "text", value: values.settings.also ?? "", spellcheck: "false", placeholder: `${folders[0]}/recording.mkv`,
    oninput: () => { values.settings.also = record.value; } });
  return [control, cameras.length ? null : virtual,
    kind === "stream" ? typed(t("live.address"), values, "output", t("live.output_help")) : null,
    kind === "film" ? typed(t("live.path"), values, "output", t("live.file_help", { folder: folders[0] })) : null,
    kind === "film" && values.sourceKind === "film" ? note([h("p", {}, t("live.not_live")), h("a", { href: "#/films" }, t("queue.choose"))], "warn") : null,
    cameras.some(([address]) => address === kind) ? h("p", { class: "quiet-text" }, t("live.in_call")) : null,
    h("details", { class: "more", open: Boolean(values.settings.also) }, h("summary", {}, t("live.record")), field(t("live.record"), record, { help: t("live.record_help") }))];
}

/** Controls for the enhancement. Unset values come from the settings. */
function look(values, choices) {
  const settings = values.settings, { engines, defaults } = choices;
  useChoices(choices);
  const set = (name) => (value) => { settings[name] = value; };
  if (typeof settings.fidelity === "number") settings.look = settings.fidelity >= 1 ? "faithful" : settings.fidelity >= 0.5 ? "clear" : "vivid"; // from a preset of an older version
  delete settings.fidelity;
  return [radios(t("films.look"), wordsOf("look"), settings.look ?? defaults.look, set("look"), { help: t("films.look_help") }),
    select(t("films.engine"), [["auto", t("live.engine_auto")], ...engineChoices(engines)], settings.engine ?? defaults.engine, set("engine")),
    slider(t("films.strength"), settings.strength ?? defaults.strength, set("strength")),
    select(t("films.region"), wordsOf("region"), settings.region ?? defaults.region, set("region")),
    slider(t("live.light"), settings.light ?? defaults.light, set("light"), { help: t("live.light_help") }),
    select(t("live.turn"), [["0", t("live.unturned")], ["90", "90°"], ["180", "180°"], ["270", "270°"]], settings.turn ?? defaults.turn, set("turn")),
    check(t("live.mirror"), settings.mirror ?? defaults.mirror, set("mirror")),
    slider(t("live.cpu_budget"), settings.cpu_budget ?? defaults.cpu_budget, set("cpu_budget"), { min: 0.05, help: t("live.cpu_budget_help") })];
}

function drawPresets(element, presets, values, draw) {
  const names = Object.keys(presets);
  const name = h("input", { type: "text", maxlength: 60, "aria-label": t("live.preset_name"), placeholder: t("live.preset_name") });
  const redraw = (now) => drawPresets(element, now, values, draw);
  replace(element,
    names.map((one) => h("span", { class: "live-preset" }, button(one === LAST_CALL ? t("call.last") : one, () => {
      kinds(Object.assign(values, structuredClone(presets[one])));
      draw();
    }, { kind: "small" }), button("×", async () => {
      if (await confirm(t("live.preset_remove_title", { name: one }), t("live.preset_remove_text"), t("live.preset_remove")))
        redraw((await api.delete(`/api/live/presets/${encodeURIComponent(one)}`)).presets);
    }, { kind: "small quiet", "aria-label": t("live.preset_remove_name", { name: one }) }))),
    h("span", { class: "live-preset" }, name, button(t("live.preset_save"), async () => {
      const { source: from, output: to, settings } = values;
      redraw((await api.put(`/api/live/presets/${encodeURIComponent(name.value)}`, { source: from, output: to, settings })).presets);
      toast(t("live.preset_saved"));
    }, { kind: "small" })));
}
