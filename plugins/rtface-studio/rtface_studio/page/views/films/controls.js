// The controls of a film: settings for the whole film, the current shot and the persons on the current frame.
import { api } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { clock, t, textOr } from "../../lib/text.js";
import { button, engineChoices, radios, select, slider } from "../../lib/ui.js";
import { change } from "../../lib/undo.js";

export const DEFAULTS = {};
const WORDS = {}; // possible values of each option on this page; empty for numbers
const FIRST = ["look", "engine", "strength", "correct"]; // other options are shown on request

/** Stores the options of this page, with the defaults from the settings file and environment variables. An unset default becomes the option's first word. */
export function useChoices({ film, defaults }) {
  Object.assign(WORDS, film);
  Object.assign(DEFAULTS, Object.fromEntries(Object.entries(film).map(([name, words]) => [name, defaults[name] ?? words[0] ?? 1])));
}

/** Returns the settings that differ from the defaults, in the server's format. */
export function changed(settings) {
  const different = Object.fromEntries(Object.entries(DEFAULTS).filter(([key, value]) => settings[key] !== value).map(([key]) => [key, settings[key]]));
  if (settings.shots.length) different.shots = settings.shots;
  if (Object.keys(settings.persons).length) different.persons = settings.persons;
  if (settings.repair) different.repair = true;
  return different;
}

/** A choice of an option's words. The label is the option's help if the page has no text for it. */
export const wordsOf = (name) => [...new Set(WORDS[name].length ? [...WORDS[name], DEFAULTS[name]] : [])].map((word) => [word, textOr(`films.${name}_${word}`, word)]);
const labelOf = (name) => textOr(`films.${name}`, t(`options.${name}`));

/** Returns the values that are set; null means not set. */
const filled = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));

const ON = { "": null, on: true, off: false };
const nameOf = (value) => Object.keys(ON).find((name) => ON[name] === (value ?? null));

/**
 * The controls. `kept.settings` contains the values; each change replaces it and calls `done()`. Call `at(time)` when another
 * frame is shown, and `found(analysis, { more, whole })` with each result of the analysis: `more` if it contains more than
 * before, `whole` if it is complete.
 */
export function filmControls(kept, engines, done, { still = false } = {}) {
  const choicesOf = (name) => (name === "engine" ? engineChoices(engines) : wordsOf(name));
  const control = (name, help = { help: textOr(`films.${name}_help`, null) }) => (choicesOf(name).length ? (name === "look" ? radios : select)(labelOf(name), choicesOf(name), kept.settings[name], (value) => set(name, value), help) :
    slider(labelOf(name), kept.settings[name], (value) => set(name, value), help));
  const whole = Object.fromEntries(Object.keys(WORDS).map((name) => [name, control(name)]));
  const shotPart = h("section", { class: "card stack", "aria-label": t("films.this_shot") });
  const personPart = h("section", { class: "card stack", "aria-label": t("films.persons") });
  const shotTime = h("span", { class: "quiet-text number" });
  const opened = new Set(); // shots whose settings are shown
  let time = 0, analysis = {}, drawn = "", names = []; // names of learnt persons

  function take(settings) {
    kept.settings = settings;
    for (const [name, control] of Object.entries(whole)) control.show(settings[name]);
    draw(true);
  }

  function put(settings) {
    take(settings);
    done();
  }

  function to(settings, group) {
    const old = kept.settings;
    change(() => put(settings), () => put(old), { group });
  }
  const set = (name, value) => to({ ...kept.settings, [name]: value, ...(name === "scale" ? { persons: {} } : {}) }, name); // at another size, persons get new numbers

  const shotNow = () => (analysis.scenes ?? []).find((shot) => time >= shot.start_s - 1e-3 && time < shot.end_s - 1e-3);
  const personsNow = () => Object.entries(analysis.persons ?? {}).filter(([, person]) => person.tracks.some((number) => {
    const track = analysis.tracks?.[number];
    return track && time >= track.first_s - 0.1 && time <= track.last_s + 0.1;
  })).map(([label]) => label);

  const sceneOf = (shot) => (analysis.scenes ?? []).find((one) => one.start_s === shot.start_s) ?? shot;

  /** Moves the ends of shot settings to the ends of the shots, because the last shot grows during the analysis. */
  function fitShots() {
    const shots = kept.settings.shots.map((shot, k, all) => ({ ...shot, end_s: Math.min(sceneOf(shot).end_s, all[k + 1]?.start_s ?? Infinity) }));
    if (shots.every((shot, k) => shot.end_s === kept.settings.shots[k].end_s)) return;
    kept.settings = { ...kept.settings, shots };
    done();
  }

  function setShot(shot, values) {
    const others = kept.settings.shots.filter((one) => one.start_s !== shot.start_s);
    const own = filled(values);
    const all = Object.keys(own).length ? [...others, { start_s: shot.start_s, end_s: sceneOf(shot).end_s, ...own }] : others;
    to({ ...kept.settings, shots: all.sort((a, b) => a.start_s - b.start_s) }, `shot-${shot.start_s}`);
  }

  function drawShot(shot) {
    if (!shot) { replace(shotPart, h("h2", {}, t("films.this_shot")), h("p", { class: "quiet-text" }, t("films.no_shots"))); return; }
    const { start_s, end_s, ...own } = kept.settings.shots.find((one) => one.start_s === shot.start_s) ?? {};
    const open = opened.has(shotPart) || Object.keys(own).length > 0;
    replace(shotPart, h("details", { class: "more", open, ontoggle: (event) => opened[event.target.open ? "add" : "delete"](shotPart) }, h("summary", {}, h("h2", {}, t("films.this_shot")), shotTime), h("div", { class: "stack" },
      select(t("films.faces_here"), choices(), nameOf(own.on), (value) => setShot(shot, { ...own, on: ON[value] })),
      slider(t("films.shot_strength"), own.strength ?? kept.settings.strength, (value, final) => { if (final) setShot(shot, { ...own, strength: value }); }),
      Object.keys(own).length ? button(t("films.shot_reset"), () => setShot(shot, {}), { kind: "small" }) : null)));
  }

  function drawPersons(labels) {
    replace(personPart, h("h2", {}, t("films.persons")),
      labels.length ? labels.map((label) => person(label)) : h("p", { class: "quiet-text" }, t("films.no_persons")));
  }

  function person(label) {
    const own = kept.settings.persons[label];
    const put = (values) => {
      const { [label]: _, ...others } = kept.settings.persons;
      to({ ...kept.settings, persons: values ? { ...others, [label]: filled(values) } : others }, `person-${label}`);
    };
    const treated = own && Object.keys(own).some((key) => key !== "name");
    return h("div", { class: "stack" },
      select(label, choices(), treated ? nameOf(own.on ?? true) : "", (value) => put(value ? { ...own, on: ON[value] } : own?.name ? { name: own.name } : null)),
      names.length ? select(t("films.person_name", { name: label }), [["", t("films.as_recognised")], ...names.map((name) => [name, name])], own?.name ?? "",
        (value) => put(value ? { ...own, name: value } : treated ? { ...own, name: null } : null)) : null,
      treated && own.on !== false ? [
        slider(t("films.person_strength", { name: label }), own.strength ?? 1, (value, final) => { if (final) put({ ...own, strength: value }); }, { help: t("films.person_strength_help") })] : null);
  }
  const choices = () => [["", t("films.as_film")], ["on", t("films.correct_always")], ["off", t("films.correct_never")]];

  /** Redraws shot and persons only if they have changed, so that a control in use keeps the focus. */
  function draw(force = false) {
    const shot = shotNow(), labels = personsNow();
    const key = JSON.stringify([shot?.start_s, labels]);
    shotTime.textContent = shot ? `${clock(shot.start_s, true)} – ${clock(shot.end_s, true)}` : "";
    if (!force && key === drawn) return;
    const focus = [...document.activeElement?.closest?.("section")?.querySelectorAll("input, select, button") ?? []].indexOf(document.activeElement);
    const part = document.activeElement?.closest?.("section");
    drawn = key;
    drawShot(shot);
    drawPersons(labels);
    if (focus >= 0 && (part === shotPart || part === personPart)) /** @type {NodeListOf<HTMLElement>} */ (part.querySelectorAll("input, select, button"))[focus]?.focus();
  }

  const element = h("aside", { class: "stack", "aria-label": t("films.controls") },
    h("section", { class: "card stack" }, h("h2", {}, t("films.controls")), FIRST.map((name) => whole[name]),
      h("details", { class: "more" }, h("summary", {}, t("films.more")), h("div", { class: "stack" }, Object.keys(whole).filter((name) => !FIRST.includes(name)).map((name) => whole[name]))),
      button(t("films.reset"), () => to({ ...DEFAULTS, shots: [], persons: {}, repair: kept.settings.repair }), { kind: "small" })),
    still ? null : [personPart, shotPart]);
  draw(true);
  api.get("/api/persons").then(({ persons }) => { names = persons; draw(true); }, () => {});
  return { element, take, always: () => set("correct", "always"), choose: (values) => to({ ...kept.settings, ...values }), at(now) { time = now; draw(); }, found(result, { more, whole }) { analysis = result; draw(more); if (whole) fitShots(); } };
}
