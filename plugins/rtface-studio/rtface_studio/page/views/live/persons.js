// Selects the faces that a live run enhances: all, the largest, or persons, optionally by photos.
import { chooseFilm } from "../../lib/chooser.js";
import { h, replace } from "../../lib/dom.js";
import { t } from "../../lib/text.js";
import { button, field, select } from "../../lib/ui.js";

const photosOf = (settings) => (settings.person ?? []).filter((one) => one.includes("=")).map((one) => {
  const [name, ...path] = one.split("=");
  return { name, path: path.join("=") };
});

/** The controls. They change `faces` and `person` ("NAME=PHOTO", or "NAME" for learnt persons) of `settings`. `element.show()` redraws them. */
export function personChoice(settings) {
  const photos = photosOf(settings);
  const whose = h("div", {}), rows = h("div", { class: "stack" });

  function drawWhose() {
    const named = photos.map((one) => ({ name: one.name.trim(), path: one.path.trim() })).filter((one) => one.name && one.path);
    const learnt = (settings.person ?? []).filter((one) => !one.includes("="));
    settings.person = [...named.map((one) => `${one.name}=${one.path}`), ...learnt];
    const names = [...named.map((one) => one.name), ...learnt];
    if (!["all", "largest", "P1", ...names].includes(settings.faces)) settings.faces = "all";
    replace(whose, select(t("live.whose"), [["all", t("live.whose_all")], ["largest", t("live.whose_largest")],
      ["P1", t("live.whose_first")], ...names.map((name) => [name, name])], settings.faces, (value) => { settings.faces = value; },
    { help: t("live.whose_help") }));
  }

  function drawRows() {
    replace(rows, photos.map((one, place) => h("div", { class: "card stack" }, text(one, "name", t("live.person_name")),
      text(one, "path", t("live.person_photo")), h("div", { class: "row" },
        button(t("live.person_choose"), () => chooseFilm((path) => { one.path = path; draw(); }), { kind: "small" }),
        button(t("live.person_remove"), () => { photos.splice(place, 1); draw(); }, { kind: "small quiet" })))));
  }

  function draw() {
    drawWhose();
    drawRows();
  }

  function text(one, key, label) {
    const input = h("input", { type: "text", value: one[key], spellcheck: "false", maxlength: key === "name" ? 40 : null,
      oninput: () => { one[key] = input.value; drawWhose(); } });
    return field(label, input);
  }
  draw();
  return Object.assign(h("div", { class: "stack" }, whose, rows,
    button(t("live.person_add"), () => { photos.push({ name: "", path: "" }); drawRows(); }, { kind: "small" })), { show: drawWhose });
}
