// The dialog that starts the run of a film: where the output goes, and the command that does the same.
import { api } from "../../lib/api.js";
import { h } from "../../lib/dom.js";
import { t } from "../../lib/text.js";
import { button, check, copyButton, dialog, field, note, toast } from "../../lib/ui.js";

/** `unchanged`: whether no face of a still is corrected with these settings. */
export async function startDialog(film, settings, { unchanged = false } = {}) {
  const { output } = await api.get(`/api/films/${film.id}/output`);
  const command = h("code", {});
  let overwrite = false;
  const asked = () => ({ output: name.value, overwrite, settings });
  const tell = () => api.post(`/api/films/${film.id}/command`, asked())
    .then((value) => { command.textContent = value.command; }, () => { command.textContent = "–"; }); // starting says why
  const name = h("input", { type: "text", value: output, spellcheck: "false", onchange: tell });
  await tell();
  const where = field(t("films.output"), name, { help: t("films.output_help") });
  const box = dialog(t(film.kind === "still" ? "films.start_still" : "films.start_title"), unchanged ? note(t("films.start_unchanged"), "warn") : null, where,
    check(t("films.overwrite"), overwrite, (value) => { overwrite = value; tell(); }),
    h("p", {}, t("films.start_note")),
    h("details", {}, h("summary", {}, t("films.command")), h("div", { class: "stack" }, command, copyButton(() => command.textContent))),
    h("div", { class: "row" }, button(t("films.start"), async () => {
      let item;
      try {
        ({ item } = await api.post(`/api/films/${film.id}/start`, asked()));
      } catch (error) {
        return where.fault(error.message);
      }
      box.close();
      toast(t("films.started"), { action: h("a", { href: `#/queue/${item}` }, t("films.to_queue")) });
    }, { kind: "primary" })));
}
