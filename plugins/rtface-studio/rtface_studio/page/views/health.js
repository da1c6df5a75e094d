// Health: findings of `rtface doctor`, with the command that repairs each fault.
import { api } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { t, translated } from "../lib/text.js";
import { badge, button, copyButton, note } from "../lib/ui.js";

const KINDS = { ok: "good", warn: "warn", fault: "bad" };
const ORDER = ["fault", "warn", "optional", "ok"];

/** Returns the state of a finding. Missing optional components have a state of their own. */
const stateOf = ({ state, repair }) => (state === "ok" && repair ? "optional" : state);
let last = null; // last result, shown while the checks run again

export async function mount(root) {
  const list = h("div", { class: "stack", "aria-live": "polite" });
  const when = h("span", { class: "quiet-text" });
  let gone = false;
  async function run() {
    replace(list, h("p", { class: "quiet-text" }, t("health.running")));
    try {
      last = { ...await api.get("/api/health"), at: new Date() };
      if (!gone) draw();
    } catch (error) {
      replace(list, note(error.message, "bad"));
    }
  }

  function draw() {
    when.textContent = t("health.at", { time: last.at.toLocaleTimeString() });
    const faults = last.findings.filter((one) => one.state === "fault").length;
    const findings = [...last.findings].sort((a, b) => ORDER.indexOf(stateOf(a)) - ORDER.indexOf(stateOf(b)));
    replace(list, faults ? note(t("health.faults", { count: faults }), "bad") : note(t("health.good")),
      h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": t("health.title") }, h("table", { class: "stacked" },
        h("thead", {}, h("tr", {}, ["state", "part", "found"].map((key) => h("th", { scope: "col" }, t(`health.${key}`))))),
        h("tbody", {}, findings.map((one) => h("tr", {}, h("td", {}, badge(t(`health.state_${stateOf(one)}`), KINDS[stateOf(one)] ?? "")),
          h("td", {}, one.name), h("td", {}, translated(one.messages.detail), one.repair ? h("div", { class: "row repair" }, h("code", {}, translated(one.messages.repair)), one.command ? copyButton(() => one.command) : null) : null)))))));
  }
  replace(root, h("div", { class: "head" }, h("h1", {}, t("health.title")), h("div", { class: "row" }, when, button(t("health.again"), run))), list);
  if (last) draw();
  else run();
  return () => { gone = true; };
}
