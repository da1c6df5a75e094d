// The analysis of a film: persons, tracks, the problems of each face, and its treatment by a run.
import { api, keyed } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { on } from "../../lib/events.js";
import { clock, percent, t, translated } from "../../lib/text.js";
import { badge, button, note, showError } from "../../lib/ui.js";

/** Shows the analysis of film `id` in `root`. `seek(time)` moves the player. Calls `told(result, { more, whole })` with the result so far: `more` if there are more
 * shots, tracks or persons than before, `whole` if it is complete. Returns a function that ends this, and one that repeats the analysis if `options()` (the run's
 * options that it needs) have changed, and redraws if `strength()` (of the film) has. */
export function mountAnalysis(root, id, seek, told, { still = false, options = () => ({}), strength = () => null } = {}) {
  const act = async (body = {}) => draw(await api.post(`/api/films/${id}/analysis`, { ...options(), ...body }));
  const bar = h("progress", { max: 1, "aria-label": t("films.analysing") });
  const line = h("p", { class: "quiet-text number", role: "status" });
  const stop = button(t("films.analysis_stop"), () => act({ action: "stop" }), { kind: "small" });
  const head = h("h2", {}, t(still ? "films.analysis_still" : "films.analysis"));
  const sofar = h("div", { class: "stack" });
  const pictures = new Map(); // of persons; fetched only once during the analysis
  let shown = null, result = {}, count = "";
  const table = () => found(result, seek, pictures, still, strength());

  function tell(news, whole) {
    result = ordered({ ...result, ...news });
    const now = [result.scenes?.length, Object.keys(result.tracks ?? {}).length, Object.keys(result.persons ?? {})].join();
    told(result, { more: now !== count, whole });
    count = now;
  }

  function draw(value) {
    if (value.state === "done") {
      count = "";
      pictures.clear();
      tell(value.result, true);
      replace(root, head, table());
    } else if (value.state === "failed") replace(root, head, note(translated(value.error), "bad"), button(t("films.analyse_again"), () => act()));
    else if (value.state === "stopped") replace(root, head, h("p", {}, t("films.analysis_stopped")), button(t("films.analyse_again"), () => act()));
    else {
      if (!["none", "waiting", "running"].includes(shown)) replace(root, head, line, bar, stop, sofar);
      if (typeof value.share === "number") bar.value = value.share; else bar.removeAttribute("value");
      line.textContent = [t(value.state === "waiting" ? "films.analysis_waits" : "films.analysing"), typeof value.share === "number" && percent(value.share),
        value.left_s && t("queue.left", { time: clock(value.left_s) })].filter(Boolean).join(" · ");
      if (value.scenes?.length || value.tracks) tell(Object.fromEntries(["scenes", "tracks", "persons"].filter((key) => value[key]).map((key) => [key, value[key]])), false);
      if (Object.keys(value.tracks ?? {}).length && !sofar.contains(document.activeElement)) replace(sofar, table());
    }
    shown = value.state;
  }

  draw({ state: "none" });
  const now = () => JSON.stringify(options());
  let looked = now(), asked = strength();
  act().catch(showError);
  function again() {
    if (asked !== strength() && shown === "done") replace(root, head, table());
    asked = strength();
    if (looked === now()) return;
    looked = now();
    result = {};
    pictures.clear();
    replace(sofar);
    tell({}, false);
    act().catch(showError);
  }
  return { end: on(`film/${id}/analysis`, draw), again };
}

const TELLING_S = 2; // unfinished tracks are judged only from this length

/** Returns the middle of the track with the largest product of expected gain and width; null if no track is corrected. */
export function clearest({ tracks = {} }, whole) {
  const gain = ({ gain_db: db, mean_width_px: width }) => (db ?? 0) * (width ?? 0);
  const best = Object.values(tracks).filter((track) => track.on && (whole || track.last_s - track.first_s >= TELLING_S)).sort((a, b) => gain(b) - gain(a))[0];
  return best ? (best.first_s + best.last_s) / 2 : null;
}

/** Returns the result with its persons sorted by number. */
const ordered = (result) => ({ ...result, persons: Object.fromEntries(Object.entries(result.persons ?? {}).sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))) });

/** Shows the persons, each with a picture of the best face. */
function faces(persons, seek, pictures, still) {
  const picture = (label, url) => {
    if (!pictures.has(label)) pictures.set(label, h("img", { src: keyed(url), alt: "", width: 96, height: 96 }));
    return pictures.get(label);
  };
  return h("ul", { class: "persons" }, persons.map(([label, person]) => h("li", {},
    h("button", { type: "button", class: "person", onclick: () => seek(person.first_s + 0.2), "aria-label": t("films.person_seek", { name: label }) },
      person.face ? picture(label, person.face) : h("span", { class: "no-face" }),
      h("strong", {}, label), still ? null : h("span", { class: "quiet-text number" }, t("films.person_seconds", { time: clock(person.seconds, true) }))))));
}

function found(result, seek, pictures, still, strength) {
  const tracks = Object.entries(result.tracks ?? {});
  const whole = Object.values(result.picture ?? {}).some((score) => score >= LEAST) ? [h("h3", {}, t("films.whole_picture")), problems(result.picture)] : [];
  if (!tracks.length) return [h("p", {}, t("films.no_faces")), ...whole];
  const persons = Object.entries(result.persons ?? {});
  const jump = (time) => button(clock(time, true), () => seek(time), { kind: "small quiet" });
  return [
    h("p", {}, still ? t("films.found_still", { count: tracks.length }) : t("films.found", { persons: persons.length, tracks: tracks.length })),
    persons.length ? faces(persons, seek, pictures, still) : null,
    h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": t(still ? "films.analysis_still" : "films.analysis") }, h("table", {},
      h("thead", {}, h("tr", {}, ["track", "person", "from", "width", "problems", "plan"].filter((key) => !still || !["track", "from"].includes(key)).map((key) => h("th", { scope: "col", class: ["track", "width"].includes(key) ? "wide-only" : null }, t(`films.column_${key}`))))),
      h("tbody", {}, tracks.map(([number, track]) => h("tr", {}, still ? null : h("td", { class: "number wide-only" }, number),
        h("td", {}, persons.find(([, person]) => person.tracks.includes(Number(number)))?.[0] ?? t("films.unknown")),
        still ? null : h("td", {}, jump(track.first_s ?? 0)), h("td", { class: "number wide-only" }, `${Math.round(track.mean_width_px ?? 0)} px`),
        h("td", {}, problems(track.analysis ?? {})),
        h("td", {}, verdict(track, strength))))))), ...whole,
  ];
}

/** If the correction is hardly visible, shows a line with a button for each setting that would make it more visible. */
export function proposed({ proposals = [] }, take) {
  if (!proposals.length) return null;
  const act = ({ values: { option, value } }) => (option === "engine" ? h("a", { class: "button small", href: "#/engines" }, t("films.propose_engine")) :
    button(t(`films.propose_${option}`, { look: t(`films.look_${value}`) }), () => take({ [option]: value }), { kind: "small" }));
  return note([h("p", {}, proposals.length === 1 && proposals[0].values.option === "scale" ? translated(proposals[0]) : t("films.little_seen")), h("div", { class: "row" }, proposals.map((one) => h("span", { title: translated(one) }, act(one))))]);
}

/** The verdict on a face: visibility of the correction, requested and applied strength, and reasons. `strength`, if given, replaces the strength that was judged. */
export function verdict({ on, verdict: said }, strength = null) {
  if (!said) return badge(t(on ? "films.corrected" : "films.left_alone")); // the analysis is still running
  const because = said.because.map((one) => (one.code ? translated(one) : reasonOf(one.message))).join("; ");
  const share = strength !== null && said.asked ? strength / said.asked : 1;
  const told = said.word === "left alone" ? because : [said.asked * share === 1 && percent(said.applied) === percent(1) ? "" : t("films.asked_applied", { asked: percent(said.asked * share), applied: percent(said.applied * share) }), because && t("films.because", { why: because })].filter(Boolean).join(", ");
  const word = said.word === "left alone" || share === 1 ? said.word : "corrected"; // the visibility at this strength was not judged
  return [badge(t(WORDS[word] ?? word), said.word === "left alone" ? "" : "accent"), told ? h("div", { class: "quiet-text" }, told) : null];
}

const REASONS = { "nothing to gain": "films.reason_nothing", "never asked for": "films.reason_never", "not among the chosen faces": "films.reason_chosen", "too small": "films.reason_small" };

const WORDS = { "left alone": "films.left_alone", corrected: "films.corrected", "hardly visible": "films.hardly_visible", visible: "films.visible", "clearly visible": "films.clearly_visible" };

/** Translates the reason for a treatment, for example why a face is left alone. */
export const reasonOf = (text) => t(REASONS[text.split(" (")[0]] ?? text); // figures follow in brackets

const LEAST = 0.1; // lower scores are not listed

/** Lists the problems of a face, the worst first, each with a word, a bar and a score. */
function problems(scores) {
  const worst = Object.entries(scores).filter(([, score]) => score >= LEAST).sort((a, b) => b[1] - a[1]);
  if (!worst.length) return t("films.no_problem");
  return h("ul", { class: "problems" }, worst.map(([name, score]) => {
    const word = t(`films.problem_${name}`);
    return h("li", {}, h("span", {}, word), h("meter", { min: 0, max: 1, value: score, "aria-label": word }), h("span", { class: "number" }, percent(score)));
  }));
}
