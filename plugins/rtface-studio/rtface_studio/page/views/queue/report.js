// The report of a run, and the check of its output by `rtface verify`.
import { api, keyed } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { clock, number, t } from "../../lib/text.js";
import { button, note } from "../../lib/ui.js";
import { verdict } from "../films/analysis.js";

/** Sums time and corrected frames over each person's tracks. */
function personsOf(tracks) {
  const found = new Map();
  for (const one of tracks) {
    if (!one.person || one.person === "unknown") continue;
    const sum = found.get(one.person) ?? { seconds: 0, corrected: 0 };
    sum.seconds += one.last_s - one.first_s;
    sum.corrected += one.frames_corrected;
    found.set(one.person, sum);
  }
  return [...found].map(([name, sum]) => h("li", {}, t("queue.report_person", { name, time: clock(sum.seconds, true), frames: number(sum.corrected) })));
}

/** Columns: text, class, and function for a track's value. Empty columns are omitted. @type {[string, string, (track: any) => any][]} */
const COLUMNS = [
  ["films.column_track", "number wide-only", (one) => one.id], ["films.column_person", "", (one) => one.person || null],
  ["films.column_from", "number", (one) => `${clock(one.first_s, true)} – ${clock(one.last_s, true)}`],
  ["films.column_width", "number wide-only", (one) => `${Math.round(one.mean_width_px)} px`],
  ["queue.report_corrected", "number", (one) => t("queue.report_frames", { some: number(one.frames_corrected), all: number(one.frames) })],
  ["queue.report_strength", "", (one) => verdict({ on: one.frames_corrected > 0, verdict: one.verdict })]];

function tracksTable(tracks) {
  const columns = COLUMNS.filter(([, , cell]) => tracks.some((one) => cell(one) !== null));
  return h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": t("queue.report") }, h("table", {},
    h("thead", {}, h("tr", {}, columns.map(([text, kind]) => h("th", { scope: "col", class: kind.replace("number", "") }, t(text))))),
    h("tbody", {}, tracks.map((one) => h("tr", {}, columns.map(([, kind, cell]) => h("td", { class: kind }, cell(one) ?? "–")))))));
}

export const reportOf = (id) => api.get(`/api/queue/${id}/report`).catch(() => ({}));

/** The card with an item's report. Hidden if the run wrote none. */
export function reportCard({ id, started_at: started, ended_at: ended }, told = reportOf(id)) {
  const root = h("section", { class: "card stack", hidden: true, "aria-label": t("queue.report") });
  told.then((report) => {
    if (!report.treatments) return;
    root.hidden = false;
    const corrected = report.treatments.filter((one) => one.frames_corrected), persons = personsOf(report.treatments);
    replace(root, h("h2", {}, t("queue.report")),
      h("p", {}, t("queue.report_line", { faces: report.treatments.length, corrected: corrected.length, engines: Object.keys(report.engines ?? {}).join(", ") || "–" })),
      started && ended ? h("p", { class: "quiet-text" }, t("queue.report_time", { time: clock((Date.parse(ended) - Date.parse(started)) / 1000), version: report.rtface })) : null,
      persons.length ? h("ul", {}, persons) : null,
      h("p", {}, h("a", { href: keyed(`/api/queue/${id}/report?download`) }, t("queue.report_download"))),
      report.treatments.length ? tracksTable(report.treatments) : null,
      report.doubtful.length ? h("h3", {}, t("queue.report_doubtful")) : null,
      h("ol", {}, report.doubtful.map((one) => h("li", {}, `${clock(one.at_s, true)}, ${t("films.column_track")} ${one.track}: ${one.reasons.join(", ")}`))));
  });
  return root;
}

/** The card that checks the output of item `id`. */
export function verifyCard(id) {
  const found = h("div", { class: "stack", "aria-live": "polite" });
  return h("section", { class: "card stack", "aria-label": t("queue.verify") }, h("h2", {}, t("queue.verify")), h("p", { class: "quiet-text" }, t("queue.verify_hint")), found,
    button(t("queue.verify_now"), async () => {
      replace(found, h("p", { class: "quiet-text" }, t("queue.verifying")), h("progress", { "aria-label": t("queue.verifying") }));
      try {
        const said = await api.post(`/api/queue/${id}/verify`);
        const differs = said.problems.length > 0;
        replace(found, note(t(said.same ? "queue.verified" : differs ? "queue.not_verified" : "queue.partly_verified"), differs ? "bad" : ""),
          h("ul", { class: "stack" }, said.problems.map((line) => h("li", {}, "✗ ", line)), said.proofs.map((line) => h("li", {}, "✓ ", line)), [...said.gaps, ...said.notes].map((line) => h("li", {}, line))));
      } catch (error) {
        replace(found, note(error.message, "bad"));
      }
    }, { kind: "small" }));
}
