// What the analysis of a film found: persons, tracks, what is wrong with each face, and what a run does about it.
import { api } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { on } from "../../lib/events.js";
import { clock, percent, t } from "../../lib/text.js";
import { badge, button, note, showError } from "../../lib/ui.js";

/** Shows the analysis of film `id` in `root`; `seek(time)` moves the player, `finished(result)` gets what was found. Gives a function that ends this. */
export function mountAnalysis(root, id, seek, finished) {
  const start = async () => draw(await api.post(`/api/films/${id}/analysis`));

  function draw(value) {
    const head = h("h2", {}, t("films.analysis"));
    if (value.state === "done") {
      replace(root, head, found(value.result, seek));
      finished(value.result);
    } else if (value.state === "failed") replace(root, head, note(value.error, "bad"), button(t("films.analyse_again"), start));
    else replace(root, head, h("p", { class: "quiet-text" }, t("films.analysing")), h("progress", { "aria-label": t("films.analysing") }));
  }

  draw({ state: "running" });
  start().catch(showError);
  return on(`film/${id}/analysis`, draw);
}

function found(result, seek) {
  const tracks = Object.entries(result.tracks ?? {});
  if (!tracks.length) return h("p", {}, t("films.no_faces"));
  const persons = Object.entries(result.persons ?? {});
  const jump = (time) => button(clock(time, true), () => seek(time), { kind: "small quiet" });
  return [
    h("p", {}, t("films.found", { persons: persons.length, tracks: tracks.length })),
    h("div", { class: "table-scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["track", "person", "from", "width", "problems", "plan"].map((key) => h("th", { scope: "col" }, t(`films.column_${key}`))))),
      h("tbody", {}, tracks.map(([number, track]) => h("tr", {}, h("td", { class: "number" }, number),
        h("td", {}, persons.find(([, person]) => person.tracks.includes(Number(number)))?.[0] ?? t("films.unknown")),
        h("td", {}, jump(track.first_s ?? 0)), h("td", { class: "number" }, `${Math.round(track.mean_width_px ?? 0)} px`),
        h("td", {}, problems(track.analysis ?? {})),
        h("td", {}, track.on ? badge(`${percent(track.strength)}`, "accent") : [badge(t("films.left_alone")), h("div", { class: "quiet-text" }, reason(track))])))))),
  ];
}

const REASONS = { clean: "films.reason_clean", "as sharp as the engine's answer": "films.reason_sharp" };

/** Why a face is left alone. */
const reason = (track) => (track.reasons ?? []).map((text) => (REASONS[text] ? t(REASONS[text]) : text)).join(", ");

const LEAST = 0.1; // lower scores are not worth a line

/** What is wrong with a face, the worst first: a word, a bar and its score for each. */
function problems(scores) {
  const worst = Object.entries(scores).filter(([, score]) => score >= LEAST).sort((a, b) => b[1] - a[1]);
  if (!worst.length) return t("films.no_problem");
  return h("ul", { class: "problems" }, worst.map(([name, score]) => {
    const word = t(`films.problem_${name}`);
    return h("li", {}, h("span", {}, word), h("meter", { min: 0, max: 1, value: score, "aria-label": word }), h("span", { class: "number" }, percent(score)));
  }));
}
