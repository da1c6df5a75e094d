// The contact sheet of a film: the faces that benefit most, restored by two engines.
import { api, keyed } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { on } from "../../lib/events.js";
import { t, translated } from "../../lib/text.js";
import { button, copyButton, note } from "../../lib/ui.js";

/** Shows the sheet in `root`. `settings()` returns the settings of the whole film, `take(values)` sets some of them. Returns a function that ends this. */
export function mountSheet(root, id, settings, take) {
  const act = async (body) => draw(await api.post(`/api/films/${id}/sheet`, body));
  const make = (label) => button(label, () => act({ settings: settings() }), { kind: "small" });
  const line = h("p", { class: "quiet-text", role: "status" });

  /** @param {{ state: string, result?: any, error?: any, message?: string }} sheet */
  function draw({ state, result, error, message: said }) {
    const head = h("h2", {}, t("films.sheet"));
    if (state === "waiting" || state === "running") {
      line.textContent = said ?? t("films.sheet_working");
      replace(root, head, line, h("progress", { "aria-label": t("films.sheet_working") }), button(t("app.cancel"), () => act({ action: "stop" }), { kind: "small" }));
    } else if (state === "done") {
      const image = keyed(`${result.image}?${Date.now()}`);
      replace(root, head, h("a", { href: image, target: "_blank", rel: "noopener" }, h("img", { src: image, alt: t("films.sheet_alt") })),
        result.hint ? note(result.hint) : h("div", { class: "row" }, h("span", {}, t("films.sheet_take")), result.engines.map((engine) =>
          button(engine, () => take({ engine: engine === "rtface-m" ? "default" : engine }), { kind: "small" }))),
        h("div", { class: "row" }, h("code", {}, result.command),
          copyButton(() => result.command)),
        make(t("films.sheet_again")));
    } else {
      replace(root, head, h("p", { class: "quiet-text" }, t("films.sheet_hint")), state === "failed" ? note(translated(error), "bad") : null, make(t("films.sheet_make")));
    }
  }
  draw({ state: "none" });
  api.get(`/api/films/${id}/sheet`).then(draw, () => {});
  return on(`film/${id}/sheet`, draw);
}
