// The dialogs that choose a file in the allowed folders.
import { api, keyed } from "./api.js";
import { h, newId, replace } from "./dom.js";
import { bytes, language, t } from "./text.js";
import { badge, button, dialog, emptyState, field, showError } from "./ui.js";

const FILMS = /\.(mp4|m4v|mov|mkv|webm|avi|mpg|mpeg|mts|m2ts|ts|mxf|wmv|flv|3gp|vob|dv|ogv|jpe?g|png|tiff?|webp|bmp|dpx|exr)$/i;
const MANY = 6; // number of entries above which a search field is shown
const RESULT = /\.(enhanced|unchanged)(-\d+)?\.[^.]+$/i; // names of results of the studio

/** Opens the dialog for a film or a photo. Calls `chosen(path)`, or `all(paths)` for all files of a folder. */
export const chooseFilm = (chosen, all = null) => choose(t("films.choose_any"), FILMS, chosen, all);

/** Opens the dialog for a file whose name matches `names`. Calls `chosen(path)`. */
export const chooseFile = (chosen, names) => choose(t("app.choose_file"), names, chosen);

/** Opens the dialog for a folder. Calls `chosen(path)`. */
export const chooseFolder = (chosen) => choose(t("app.choose_folder"), null, chosen);

/** Opens a dialog. `names` is a pattern for file names; null if a folder is to be chosen. */
function choose(title, names, chosen, all = null) {
  const list = h("div", { class: "stack" });
  const box = dialog(title, list);
  history.pushState({ chooser: true }, ""); // so that "back" closes it
  const back = () => box.close();
  addEventListener("popstate", back, { once: true });
  box.addEventListener("close", () => {
    removeEventListener("popstate", back);
    show();
    if (history.state?.chooser && !picked) history.back();
  });
  let picked = false; // then the choice itself may already have changed the address
  const pick = (action, value) => { picked = true; box.close(); return action(value); };
  let asked = 0; // number of the last request; responses to earlier requests are ignored
  let places = null; // suggestions for additional folders; null if the page cannot add folders

  async function roots(first = false) {
    const mine = ++asked, found = await api.get("/api/files"), { folders } = found;
    if (mine !== asked) return;
    places = found.places;
    if (first || (folders.length === 1 && !places)) {
      try { return await open(folders[0]); } catch (error) { showError(error); } // its disk may be disconnected; other folders may work
    }
    show(folders.map((path) => h("div", { class: "chooser-line" }, row(path, true, () => open(path)), found.added.includes(path) ?
      button("×", async () => { await api.delete(`/api/files/folders?folder=${encodeURIComponent(path)}`); return roots(); }, { kind: "quiet", "aria-label": t("app.remove_folder", { name: path }) }) : null)), addFolderForm());
    return list.querySelector("button")?.focus();
  }

  /** Shows new content. Stops loading the pictures of the previous folder. */
  function show(...children) {
    for (const image of list.querySelectorAll("img")) image.removeAttribute("src");
    replace(list, children);
  }

  /** Returns the form that allows another folder; null if the page cannot add folders. */
  function addFolderForm() {
    if (!places) return null;
    const id = newId("places"), path = h("input", { type: "text", list: id, spellcheck: "false" });
    const where = field(t("app.add_folder"), path, { help: t("app.add_folder_help") });
    return h("details", {}, h("summary", {}, t("app.add_folder")), h("div", { class: "stack" }, where, h("datalist", { id }, places.map((value) => h("option", { value }))),
      button(t("app.add_folder_now"), async () => {
        try {
          return await open((await api.post("/api/files/folders", { folder: path.value.trim() })).folder);
        } catch (error) { return where.fault(error.message); }
      }, { kind: "small" })));
  }

  function row(name, folder, action, info = "", path = null) {
    return h("button", { type: "button", class: "button chooser-row", onclick: () => Promise.resolve(action()).catch(showError) },
      path && h("img", { alt: "", loading: "lazy", src: keyed(`/api/files/picture?path=${encodeURIComponent(path)}`), onerror: (event) => { event.target.style.visibility = "hidden"; } }),
      h("span", {}, folder ? "▸ " : "", name, !folder && RESULT.test(name) ? [" ", badge(t("films.made_here"))] : null), h("span", { class: "quiet-text number" }, info));
  }

  async function open(path) {
    const mine = ++asked, value = await api.get(`/api/files?folder=${encodeURIComponent(path)}`);
    if (mine !== asked) return;
    const entries = value.entries.filter((entry) => entry.folder || names?.test(entry.name));
    const files = entries.filter((entry) => !entry.folder && !RESULT.test(entry.name));
    const date = new Intl.DateTimeFormat(language, { dateStyle: "medium" });
    const rows = entries.map((entry) => [entry.name.toLowerCase(), row(entry.name, entry.folder, () => (entry.folder ? open(entry.path) : pick(chosen, entry.path)),
      entry.folder ? "" : `${date.format(new Date(1000 * entry.modified))} · ${bytes(entry.size)}`, !entry.folder && FILMS.test(entry.name) ? entry.path : null)]);
    const find = h("input", { type: "search", class: "chooser-search", "aria-label": t("films.find"), placeholder: t("films.find"),
      oninput: () => { for (const [name, element] of rows) element.hidden = !name.includes(find.value.trim().toLowerCase()); } });
    show(h("div", { class: "row" },
      button(t("films.up"), () => (value.parent ? open(value.parent).catch((error) => { showError(error); return roots(); }) : roots()), { kind: "small" }), h("code", {}, value.folder),
      all && files.length > 1 ? button(t("films.open_all", { count: files.length }), () => pick(all, files.map((entry) => entry.path)), { kind: "small" }) : null,
      names ? null : button(t("app.take_folder"), () => pick(chosen, value.folder), { kind: "primary small" }),
      entries.length > MANY ? find : null),
    rows.map(([, element]) => element),
    entries.length || !names ? null : names === FILMS ? emptyState(t("films.no_films"), t("films.no_films_hint")) : emptyState(t("app.no_files"), t("films.no_films_hint")), value.parent ? null : addFolderForm());
    (list.querySelector(".chooser-row") ?? list.querySelector("button"))?.focus();
  }
  roots(true).catch(showError); // opens the first allowed folder; "Up" leads to the others
}
