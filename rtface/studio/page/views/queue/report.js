// What a run says of itself, and what `rtface verify` proves about its output.
import { api } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { clock, number, percent, t } from "../../lib/text.js";
import { badge, button, note } from "../../lib/ui.js";

/** The card with the report of an item of the queue; hidden where its run wrote none. */
export function reportCard({ id, started_at: started, ended_at: ended }) {
  const root = h("section", { class: "card stack", hidden: true, "aria-label": t("queue.report") });
  api.get(`/api/queue/${id}/report`).then((report) => {
    if (!report.treatments) return;
    root.hidden = false;
    const corrected = report.treatments.filter((one) => one.frames_corrected);
    replace(root, h("h2", {}, t("queue.report")),
      h("p", {}, t("queue.report_line", { faces: report.treatments.length, corrected: corrected.length, engines: Object.keys(report.engines ?? {}).join(", ") || "–" })),
      started && ended ? h("p", { class: "quiet-text" }, t("queue.report_time", { time: clock((new Date(ended) - new Date(started)) / 1000), version: report.rtface })) : null,
      report.treatments.length ? h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": t("queue.report") }, h("table", {},
        h("thead", {}, h("tr", {}, ["track", "person", "from", "width"].map((key) => h("th", { scope: "col" }, t(`films.column_${key}`))),
          ["report_corrected", "report_strength", "report_invented"].map((key) => h("th", { scope: "col" }, t(`queue.${key}`))))),
        h("tbody", {}, report.treatments.map((one) => h("tr", {}, h("td", { class: "number" }, one.id), h("td", {}, one.person || "–"),
          h("td", { class: "number" }, `${clock(one.first_s, true)} – ${clock(one.last_s, true)}`), h("td", { class: "number" }, `${Math.round(one.mean_width_px)} px`),
          h("td", { class: "number" }, t("queue.report_frames", { some: number(one.frames_corrected), all: number(one.frames) })),
          h("td", {}, one.frames_corrected ? badge(percent(one.strength), "accent") : badge(t("films.left_alone"))),
          h("td", { class: "number" }, one.invented === null ? "–" : percent(one.invented, 1))))))) : null);
  }, () => {});
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
        replace(found, note(t(said.same ? "queue.verified" : "queue.not_verified"), said.same ? "" : "bad"),
          h("ul", { class: "stack" }, [...said.problems, ...said.differences].map((line) => h("li", {}, "✗ ", line)), said.proofs.map((line) => h("li", {}, "✓ ", line)), said.notes.map((line) => h("li", {}, line))));
      } catch (error) {
        replace(found, note(error.message, "bad"));
      }
    }, { kind: "small" }));
}
