// The dialogs that choose a file in the allowed folders.
import { api } from "./api.js";
import { h, replace } from "./dom.js";
import { bytes, language, t } from "./text.js";
import { badge, button, dialog, emptyState, showError } from "./ui.js";

const FILMS = /\.(mp4|m4v|mov|mkv|webm|avi|mpg|mpeg|mts|m2ts|ts|mxf|wmv|flv|3gp|vob|dv|ogv|jpe?g|png|tiff?|webp|bmp|dpx|exr)$/i;
const MANY = 6; // entries above which a field finds them by name
const RESULT = /\.enhanced(-\d+)?\.[^.]+$/i; // of a run of the studio

/** Opens the dialog for a film or a photo; `chosen(path)` is called with it. `all(paths)` takes all of a folder. */
export const chooseFilm = (chosen, all = null) => choose(t("films.choose_any"), FILMS, chosen, all);

/** Opens the dialog for a file whose name fits `names`; `chosen(path)` is called with it. */
export const chooseFile = (chosen, names) => choose(t("app.choose_file"), names, chosen);

/** Opens the dialog for a folder; `chosen(path)` is called with it. */
export const chooseFolder = (chosen) => choose(t("app.choose_folder"), null, chosen);

/** `names` is null where a folder is chosen. */
function choose(title, names, chosen, all = null) {
  const list = h("div", { class: "stack" });
  const box = dialog(title, list);
  history.pushState({ chooser: true }, ""); // so that "back" closes it
  const back = () => box.close();
  addEventListener("popstate", back, { once: true });
  box.addEventListener("close", () => {
    removeEventListener("popstate", back);
    if (history.state?.chooser && !picked) history.back();
  });
  let picked = false; // what is chosen may lead elsewhere at once
  const pick = (action, value) => { picked = true; box.close(); return action(value); };
  let asked = 0; // answers of a folder that was left meanwhile are not shown

  async function roots(first = false) {
    const mine = ++asked, { folders } = await api.get("/api/files");
    if (mine !== asked) return;
    if (first || folders.length === 1) {
      try { return await open(folders[0]); } catch (error) { showError(error); } // its disk is gone; there may be others
    }
    replace(list, folders.map((path) => row(path, true, () => open(path))));
    return list.querySelector("button")?.focus();
  }

  function row(name, folder, action, info = "") {
    return h("button", { type: "button", class: "button chooser-row", onclick: () => Promise.resolve(action()).catch(showError) },
      h("span", {}, folder ? "▸ " : "", name, !folder && RESULT.test(name) ? [" ", badge(t("films.made_here"))] : null), h("span", { class: "quiet-text number" }, info));
  }

  async function open(path) {
    const mine = ++asked, value = await api.get(`/api/files?folder=${encodeURIComponent(path)}`);
    if (mine !== asked) return;
    const entries = value.entries.filter((entry) => entry.folder || names?.test(entry.name));
    const files = entries.filter((entry) => !entry.folder && !RESULT.test(entry.name));
    const date = new Intl.DateTimeFormat(language, { dateStyle: "medium" });
    const rows = entries.map((entry) => [entry.name.toLowerCase(), row(entry.name, entry.folder, () => (entry.folder ? open(entry.path) : pick(chosen, entry.path)),
      entry.folder ? "" : `${date.format(new Date(1000 * entry.modified))} · ${bytes(entry.size)}`)]);
    const find = h("input", { type: "search", class: "chooser-search", "aria-label": t("films.find"), placeholder: t("films.find"),
      oninput: () => { for (const [name, element] of rows) element.hidden = !name.includes(find.value.trim().toLowerCase()); } });
    replace(list, h("div", { class: "row" },
      button(t("films.up"), () => (value.parent ? open(value.parent).catch((error) => { showError(error); return roots(); }) : roots()), { kind: "small" }), h("code", {}, value.folder),
      all && files.length > 1 ? button(t("films.open_all", { count: files.length }), () => pick(all, files.map((entry) => entry.path)), { kind: "small" }) : null,
      names ? null : button(t("app.take_folder"), () => pick(chosen, value.folder), { kind: "primary small" }),
      entries.length > MANY ? find : null),
    rows.map(([, element]) => element),
    entries.length || !names ? null : names === FILMS ? emptyState(t("films.no_films"), t("films.no_films_hint")) : emptyState(t("app.no_files"), t("films.no_films_hint")));
    (list.querySelector(".chooser-row") ?? list.querySelector("button"))?.focus();
  }
  roots(true).catch(showError); // the folder named first; "Up" leads to the others
}
