// Films: choose one, look at any frame before and after, change how it is enhanced, and start the job.
import { api, upload } from "../lib/api.js";
import { chooseFilm } from "../lib/chooser.js";
import { h, replace } from "../lib/dom.js";
import { bytes, clock, percent, t } from "../lib/text.js";
import { button, confirm, emptyState, showError, toast } from "../lib/ui.js";
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
  const file = h("input", { type: "file", hidden: true, multiple: true, accept: "video/*,image/*", onchange: () => { receive([...file.files]); file.value = ""; } });
  const area = emptyState(t("films.drop"), t("films.drop_hint"), [button(t("films.choose"), () => chooseFilm((path) => openFilm(path, ending.signal), async (paths) => list(await listed(...paths))), { kind: "primary" }), button(t("films.upload"), () => file.click())], file, state);
  const ending = new AbortController();

  /** Copies files to the server, one after the other, and opens them: a single one is shown, several are listed. */
  async function receive(files) {
    const cancel = new AbortController();
    const text = h("span", {}, "");
    if (files.length) replace(state, text, " ", button(t("app.cancel"), () => cancel.abort(), { kind: "small" }));
    for (const [k, file] of files.entries()) {
      const place = files.length > 1 ? ` (${k + 1} / ${files.length})` : "";
      try {
        const path = await upload(file, (share) => { text.textContent = t("films.uploading", { name: file.name, share: percent(share) }) + place; }, cancel.signal);
        if (ending.signal.aborted) toast(t("films.uploaded", { name: file.name }));
        else if (files.length === 1) await openFilm(path, ending.signal);
        else list(await listed(path));
      } catch (error) {
        if (error.name === "AbortError") break;
        showError(error);
      }
    }
    replace(state);
  }

  async function listed(...paths) {
    for (const path of paths) await api.post("/api/films", { path }).catch(showError);
    return api.get("/api/films");
  }

  /** Starts each film with the settings that it has, its result next to it. */
  async function startAll(films) {
    if (!await confirm(t("films.start_all_title", { count: films.length }), t("films.start_all_text"), t("films.start"))) return;
    let started = 0;
    for (const { id } of films) {
      try {
        const [{ output }, settings] = await Promise.all([api.get(`/api/films/${id}/output`), api.get(`/api/films/${id}/settings`)]);
        await api.post(`/api/films/${id}/start`, { output, settings });
        started += 1;
      } catch (error) { showError(error); }
    }
    if (started) toast(t("films.started_all", { count: started }), { action: h("a", { href: "#/queue" }, t("films.to_queue")) });
  }

  const options = { signal: ending.signal };
  addEventListener("dragover", (event) => { event.preventDefault(); area.classList.add("over"); }, options);
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) area.classList.remove("over"); }, options);
  addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    receive([...event.dataTransfer.files]);
  }, options);

  replace(root, h("div", { class: "head" }, h("h1", {}, t("films.title"))), area, recent);
  const list = ({ films }) => replace(recent, films.length ? h("section", { class: "stack" }, h("div", { class: "head" }, h("h2", {}, t("films.recent")),
      films.length > 1 ? button(t("films.start_all", { count: films.length }), () => startAll(films), { kind: "small" }) : null),
    h("ul", { class: "grid" }, films.map((film) => h("li", { class: "card stack" }, h("div", { class: "head" }, h("a", { href: `#/films/${film.id}` }, film.name),
      button("×", async () => list(await api.delete(`/api/films/${film.id}`)), { kind: "small quiet", "aria-label": t("films.leave", { name: film.name }) })),
      h("p", { class: "quiet-text number" }, [film.kind === "still" ? null : clock(film.duration_s ?? 0), `${film.width} × ${film.height}`, bytes(film.size ?? 0)].filter(Boolean).join(" · ")))))) : null);
  api.get("/api/films").then(list, showError);
  return () => ending.abort();
}
