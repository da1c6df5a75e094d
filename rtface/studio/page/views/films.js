// Films: choose one, look at any frame before and after, change how it is enhanced, and start the job.
import { api, upload } from "../lib/api.js";
import { chooseFilm } from "../lib/chooser.js";
import { h, replace } from "../lib/dom.js";
import { bytes, clock, percent, t } from "../lib/text.js";
import { button, emptyState, showError, toast } from "../lib/ui.js";
import { mountFilm } from "./films/film.js";

export async function mount(root, { argument }) {
  return argument[0] ? mountFilm(root, argument[0]) : mountList(root);
}

/** Opens a film and leads to it, unless `signal` ended meanwhile. */
async function openFilm(path, signal) {
  const film = await api.post("/api/films", { path });
  if (!signal.aborted) location.hash = `#/films/${film.id}`;
}

async function mountList(root) {
  const recent = h("div", {});
  const state = h("p", { class: "quiet-text", role: "status" });
  const file = h("input", { type: "file", hidden: true, accept: "video/*,image/*", onchange: () => { receive(file.files[0]); file.value = ""; } });
  const area = emptyState(t("films.drop"), t("films.drop_hint"), [button(t("films.choose"), () => chooseFilm((path) => openFilm(path, ending.signal)), { kind: "primary" }), button(t("films.upload"), () => file.click())], file, state);
  const ending = new AbortController();

  async function receive(file) {
    if (!file) return;
    const cancel = new AbortController();
    const text = h("span", {}, "");
    replace(state, text, " ", button(t("app.cancel"), () => cancel.abort(), { kind: "small" }));
    try {
      const path = await upload(file, (share) => { text.textContent = t("films.uploading", { name: file.name, share: percent(share) }); }, cancel.signal);
      if (ending.signal.aborted) toast(t("films.uploaded", { name: file.name }));
      else await openFilm(path, ending.signal);
    } catch (error) {
      replace(state);
      if (error.name !== "AbortError") showError(error);
    }
  }

  const options = { signal: ending.signal };
  addEventListener("dragover", (event) => { event.preventDefault(); area.classList.add("over"); }, options);
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) area.classList.remove("over"); }, options);
  addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    const files = event.dataTransfer.files;
    if (files.length > 1) toast(t("films.one_at_a_time"));
    receive(files[0]);
  }, options);

  replace(root, h("div", { class: "head" }, h("h1", {}, t("films.title"))), area, recent);
  const list = ({ films }) => replace(recent, films.length ? h("section", { class: "stack" }, h("h2", {}, t("films.recent")),
    h("ul", { class: "grid" }, films.map((film) => h("li", { class: "card stack" }, h("div", { class: "head" }, h("a", { href: `#/films/${film.id}` }, film.name),
      button("×", async () => list(await api.delete(`/api/films/${film.id}`)), { kind: "small quiet", "aria-label": t("films.leave", { name: film.name }) })),
      h("p", { class: "quiet-text number" }, [film.kind === "still" ? null : clock(film.duration_s ?? 0), `${film.width} × ${film.height}`, bytes(film.size ?? 0)].filter(Boolean).join(" · ")))))) : null);
  api.get("/api/films").then(list, showError);
  return () => ending.abort();
}
