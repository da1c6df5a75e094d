// Settings: every option with its value, its default and where the value comes from.
import { api } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { shortcuts } from "../lib/keys.js";
import { t, textOr } from "../lib/text.js";
import { badge, button, dialog, field, note, slider, toast } from "../lib/ui.js";
import { change } from "../lib/undo.js";

const OFTEN = ["look", "strength", "engine", "region", "grain", "codec", "crf"]; // the most used options
const GROUPS = ["quality", "face", "encode", "output", "input", "live"];

export async function mount(root) {
  let found = await api.get("/api/settings");
  const search = h("input", { type: "search", "aria-label": t("settings.search"), placeholder: t("settings.search"), oninput: () => draw() });
  const body = h("div", { class: "stack" });
  const opened = new Set(["often"]);
  const count = h("p", { class: "quiet-text", role: "status" });
  const write = async (name, value) => { found = await api.put(`/api/settings/${name}`, { value }); draw(); };
  const help = (one) => textOr(`options.${one.name}`, one.help);
  const usual = (value) => textOr(`values.${value}`, value); // the text for a value that is not set
  const inFile = (one) => one.source === found.file;

  function edit(one) {
    const control = one.values.length && one.values.join("|") === one.metavar ? h("select", {}, one.values.map((value) => h("option", { value, selected: value === one.value }, value))) :
      h("input", { type: "text", value: inFile(one) ? one.value : "", placeholder: one.metavar, spellcheck: "false", list: "settings-words" });
    const old = inFile(one) ? one.value : null;
    const share = one.metavar === "0..1" ? slider(one.name, Number(one.value) || 0, (value) => { control.value = String(value); }) : null;
    if (share) control.value = share.input.value;
    const box = dialog(help(one), share ?? field(one.name, control, { help: t("settings.form", { metavar: one.metavar || "–", default: usual(one.default) }) }),
      h("datalist", { id: "settings-words" }, one.values.map((value) => h("option", { value }))),
      h("div", { class: "row" },
        button(t("settings.save"), async () => { await change(() => write(one.name, control.value), () => write(one.name, old)); box.close(); toast(t("settings.saved")); }, { kind: "primary" }),
        old === null ? null : button(t("settings.reset"), async () => { await change(() => write(one.name, null), () => write(one.name, old)); box.close(); })));
    (share?.input ?? control).focus();
    control.addEventListener("keydown", (event) => { if (event.key === "Enter") box.querySelector(".button.primary").click(); });
  }

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    const rows = found.settings.filter((one) => !wanted || `${one.name} ${one.flag} ${help(one)}`.toLowerCase().includes(wanted));
    count.textContent = t("settings.count", { count: rows.length });
    const parts = { often: OFTEN.map((name) => rows.find((one) => one.name === name)).filter(Boolean), ...Object.fromEntries(GROUPS.map((group) =>
      [group, rows.filter((one) => one.group === group && !OFTEN.includes(one.name))])) };
    replace(body, Object.entries(parts).filter(([, some]) => some.length).map(([group, some]) => h("details", { class: "card", open: Boolean(wanted) || opened.has(group),
      ontoggle: (event) => { if (!search.value) opened[event.target.open ? "add" : "delete"](group); } },
    h("summary", {}, h("strong", {}, t(`settings.group_${group}`)), " ", h("span", { class: "quiet-text number" }, some.length)), table(some, group))));
  }

  function table(rows, group) {
    const body = h("tbody", {}, rows.map((one) => h("tr", {},
      h("td", {}, h("strong", {}, help(one)), h("div", { class: "quiet-text" }, one.name)),
      h("td", { class: "settings-value", "data-label": t("settings.value") }, h("code", {}, usual(one.value))), h("td", { class: "settings-value", "data-label": t("settings.default") }, h("code", {}, usual(one.default))),
      h("td", { "data-label": t("settings.source") }, one.source === "default" ? h("span", { class: "quiet-text" }, t("settings.from_default")) : badge(inFile(one) ? t("settings.from_file") : one.source, "accent")),
      h("td", {}, one.locked ? badge(t("settings.locked", { name: one.locked.split(/[\\/]/).pop() }), "warn") :
        one.changeable && found.file ? button(t("settings.change"), () => edit(one), { kind: "small", "aria-label": t("settings.change_name", { name: one.name }) }) : h("span", { class: "quiet-text" }, t("settings.each_run"))))));
    return h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": t(`settings.group_${group}`) }, h("table", { class: "settings stacked" }, h("thead", {}, h("tr", {},
      ["option", "value", "default", "source", "action"].map((key) => h("th", { scope: "col" }, t(`settings.${key}`))))), body));
  }
  replace(root, h("div", { class: "head" }, h("h1", {}, t("settings.title")), search),
    found.file ? note([t(found.exists ? "settings.file" : "settings.no_file"), " ", h("code", {}, found.file)]) : null,
    found.policies.length ? note([t("settings.policy"), " ", h("code", {}, found.policies.join(", "))], "warn") : null, count,
    body);
  draw();
  return shortcuts({ "/": ["settings.search", () => search.focus()] });
}
