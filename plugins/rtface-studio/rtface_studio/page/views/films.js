// Films: choose one, look at any frame before and after, change how it is enhanced, and start the job.
import { api, keyed, upload } from "../lib/api.js";
import { chooseFilm } from "../lib/chooser.js";
import { h, replace } from "../lib/dom.js";
import { bytes, clock, percent, t } from "../lib/text.js";
import { button, confirm, emptyState, showError, toast } from "../lib/ui.js";
import { wipe } from "../lib/wipe.js";
import { mountFilm } from "./films/film.js";

const HERE = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname); // then server and browser have the same folders
const copying = document.body.appendChild(h("div", { class: "card row copying", role: "status", hidden: true })); // remains when the view is left
addEventListener("beforeunload", (event) => { if (!copying.hidden) event.preventDefault(); }); // leaving the page would end the upload

export async function mount(root, { argument }) {
  if (argument[1] === "damage") return (await import("./films/damage.js")).mountDamage(root, argument[0]);
  return argument[0] ? mountFilm(root, argument[0]) : mountList(root);
}

/** Opens a film and shows it, unless `signal` is aborted in the meantime. */
async function openFilm(path, signal) {
  const film = await api.post("/api/films", { path });
  if (!signal.aborted) location.hash = `#/films/${film.id}`;
}

async function mountList(root) {
  const recent = h("div", {});
  const file = h("input", { type: "file", hidden: true, multiple: true, accept: "video/*,image/*", onchange: () => { receive([...file.files]); file.value = ""; } });
  const choose = () => chooseFilm((path) => openFilm(path, ending.signal), async (paths) => list(await listed(...paths)));
  const area = emptyState(t("films.drop"), t("films.drop_hint"), [button(t(HERE ? "films.choose_any" : "films.choose_there"), choose, { kind: "primary" }), button(t(HERE ? "films.upload_here" : "films.upload"), () => file.click())], file);
  const ending = new AbortController();

  /** Uploads files one after the other, and opens them. Shows a single file; lists several. */
  async function receive(files) {
    if (!files.length) return;
    const cancel = new AbortController();
    const text = h("span", {}, ""), bar = h("progress", { max: 1, value: 0, "aria-label": t("queue.progress") });
    replace(copying, h("div", { class: "stack" }, text, bar), button(t("app.cancel"), () => cancel.abort(), { kind: "small" }));
    copying.hidden = false;
    for (const [k, file] of files.entries()) {
      const place = files.length > 1 ? ` (${k + 1} / ${files.length})` : "";
      const show = (share) => { bar.value = share; text.textContent = t("films.uploading", { name: file.name, share: percent(share) }) + place; };
      show(0);
      try {
        const path = await upload(file, show, cancel.signal);
        if (ending.signal.aborted) toast(t("films.uploaded", { name: file.name }));
        else if (files.length === 1) await openFilm(path, ending.signal);
        else list(await listed(path));
      } catch (error) {
        if (error.name === "AbortError") break;
        showError(error);
      }
    }
    copying.hidden = true;
  }

  async function listed(...paths) {
    for (const path of paths) await api.post("/api/films", { path }).catch(showError);
    return api.get("/api/films");
  }

  /** Starts each film with its own settings. Each result is written next to its film. */
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

  async function leave(film) {
    const copy = film.copied && await confirm(t("films.leave_title", { name: film.name }), t("films.leave_text", { size: bytes(film.size ?? 0) }), t("films.leave_delete"), t("films.leave_keep"));
    list(await api.delete(`/api/films/${film.id}${copy ? "?copy=1" : ""}`));
  }
  const card = (film) => h("li", { class: "card stack film-card" },
    h("img", { alt: "", loading: "lazy", src: keyed(`/api/films/${film.id}/picture`), onerror: (event) => { event.target.hidden = true; } }),
    h("div", { class: "head" }, h("a", { href: `#/films/${film.id}` }, film.name), button("×", () => leave(film), { kind: "small quiet", "aria-label": t("films.leave", { name: film.name }) })),
    h("p", { class: "quiet-text number" }, [film.kind === "still" ? null : clock(film.duration_s ?? 0), `${film.width} × ${film.height}`, bytes(film.size ?? 0)].filter(Boolean).join(" · ")));
  const welcome = h("div", {});
  replace(root, h("div", { class: "head" }, h("h1", {}, t("films.title"))), welcome, area, recent);
  function list({ films }) {
    if (films.length) replace(welcome); else if (!welcome.firstChild) replace(welcome, introduction());
    replace(recent, films.length ? h("section", { class: "stack" }, h("div", { class: "head" }, h("h2", {}, t("films.recent")),
      films.length > 1 ? button(t("films.start_all", { count: films.length }), () => startAll(films), { kind: "small" }) : null),
    h("ul", { class: "grid" }, films.map(card))) : null);
  }
  api.get("/api/films").then(list, showError);
  return () => ending.abort();
}

/** Describes the program to new users, with an example. */
function introduction() {
  const example = wipe();
  example.element.style.setProperty("--aspect", "1");
  example.show("/page/example/before.jpg", "/page/example/after.jpg").catch(() => {}); // the server is lost
  const way = (name) => h("li", {}, h("strong", {}, t(`films.way_${name}`)), " ", t(`films.way_${name}_text`), " ");
  return h("section", { class: "card introduction", "aria-label": t("films.welcome") }, h("div", { class: "stack" }, h("h2", {}, t("films.welcome")), h("p", {}, t("films.welcome_text")),
    h("ul", { class: "stack" }, way("film"), way("call")), h("a", { class: "button", href: "#/call" }, t("films.to_live")),
    h("p", { class: "quiet-text" }, t("films.example"))), example.element);
}
