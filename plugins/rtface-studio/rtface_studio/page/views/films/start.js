// The dialog that starts a film's run: path of the output, part of the film, and the equivalent command.
import { api } from "../../lib/api.js";
import { chooseFolder } from "../../lib/chooser.js";
import { h, replace } from "../../lib/dom.js";
import { bytes, clock, span, t, translated } from "../../lib/text.js";
import { button, check, copyButton, dialog, field, note, select, toast } from "../../lib/ui.js";

const KINDS = [[".mp4", "MP4"], [".mkv", "Matroska"], [".mov", "QuickTime"], [".webm", "WebM"]];
const STILLS = [[".jpg", "JPEG"], [".png", "PNG"], [".tif", "TIFF"]];
const STEP = 6; // change of crf that about halves or doubles the size

/** Opens the dialog. `unchanged`: whether the settings correct no face of a still. */
export async function startDialog(film, settings, { unchanged = false } = {}) {
  const { output } = await api.get(`/api/films/${film.id}/output${unchanged ? "?unchanged=1" : ""}`);
  const command = h("code", {}), cost = h("p", { class: "quiet-text", role: "status" }), said = h("div", { class: "stack" });
  let overwrite = false, compare = false, quality = "", usual = null; // the crf from the settings
  const asked = () => ({ output: name.value, overwrite, compare, settings, start: start.value.trim(), end: end.value.trim(),
    ...(quality === "lossless" ? { codec: "ffv1" } : quality && usual !== null ? { crf: Math.max(1, usual + Number(quality)) } : {}) });
  const told = (body) => api.post(`/api/films/${film.id}/command`, body);
  const tell = () => told({ ...asked(), codec: null, crf: null }).then((value) => { usual = value.crf; return quality ? told(asked()) : value; }).then((value) => {
    command.textContent = value.command;
    replacing.hidden = !value.exists;
    cost.textContent = [value.seconds !== null && t("films.takes", { time: span(value.seconds, value.most) }), value.bytes !== null && t("films.size", { size: bytes(value.bytes) })].filter(Boolean).join(" ");
    replace(said, value.messages.map((message) => note(translated(message), "warn")));
  }, () => { command.textContent = "–"; cost.textContent = ""; replace(said); }); // the start reports the error
  const input = (value, hint = "") => h("input", { type: "text", value, spellcheck: "false", placeholder: hint, onchange: tell });
  const name = input(output), start = input("", "0:00"), end = input("", clock(film.duration_s ?? 0));
  const replacing = check(t("films.overwrite"), overwrite, (value) => { overwrite = value; tell(); });
  replacing.hidden = true;
  await tell();
  const ending = /\.[^.\\/]*$/, suffix = () => name.value.match(ending)?.[0].toLowerCase() ?? "", own = suffix(), kinds = film.kind === "still" ? STILLS : KINDS;
  const rename = (other) => { name.value = name.value.replace(ending, other); return tell(); };
  const kind = select(t("films.kind"), kinds.some(([one]) => one === own) ? kinds : [[own, own], ...kinds], own, rename);
  name.addEventListener("change", () => kind.show(suffix()));
  const fine = film.kind === "still" ? null : select(t("films.quality"), [["", t("films.quality_usual")], ...(usual === null ? [] : [[String(STEP), t("films.quality_smaller")], [String(-STEP), t("films.quality_finer")]]),
    ["lossless", t("films.quality_lossless")]], "", (value) => {
    quality = value;
    if (value !== "lossless") return tell();
    kind.show(".mkv");
    return rename(".mkv");
  });
  const where = field(t("films.output"), name, { help: t("films.output_help") });
  const times = { start: field(t("films.part_from"), start), end: field(t("films.part_to"), end) };
  const part = film.kind === "still" ? null : h("details", {}, h("summary", {}, t("films.part")), h("div", { class: "stack" },
    h("div", { class: "row" }, times.start, times.end), h("p", { class: "quiet-text" }, t("films.part_help")),
    check(t("films.compare"), compare, (value) => { compare = value; tell(); })));
  const box = dialog(t(film.kind === "still" ? "films.start_still" : "films.start_title"), unchanged ? note(t("films.start_unchanged"), "warn") : null, where,
    button(t("films.folder"), () => chooseFolder((folder) => { name.value = folder + name.value.slice(Math.max(name.value.lastIndexOf("/"), name.value.lastIndexOf("\\"))); return tell(); }), { kind: "small" }),
    replacing, h("div", { class: "row" }, kind, fine), part, cost, said,
    h("p", {}, t("films.start_note")),
    h("details", {}, h("summary", {}, t("films.command")), h("div", { class: "stack" }, command, copyButton(() => command.textContent))),
    h("div", { class: "row" }, button(t("films.start"), async () => {
      let item;
      try {
        ({ item } = await api.post(`/api/films/${film.id}/start`, asked()));
      } catch (error) {
        await tell();
        return (["time_value", "time_order"].includes(error.code) ? times[error.values.name] : where).fault(error.message);
      }
      box.close();
      toast(t("films.started"), { action: h("a", { href: `#/queue/${item}` }, t("films.to_queue")) });
    }, { kind: "primary" })));
}
