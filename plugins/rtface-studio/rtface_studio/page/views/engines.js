// Engines: lists the installed ones with licence and speed; adds and removes engines.
import { api } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { on } from "../lib/events.js";
import { bytes, clock, number, t, textOr, translated } from "../lib/text.js";
import { badge, button, check, confirm, dialog, emptyState, field, note, select } from "../lib/ui.js";

export async function mount(root) {
  const list = h("ul", { class: "grid wide" }, h("li", { class: "card quiet-text" }, t("engines.loading")));
  const head = h("div", { class: "row" });
  replace(root, h("div", { class: "head" }, h("h1", {}, t("engines.title")), head), list);
  let gone = false;

  function draw({ engines, offers }) {
    if (gone) return;
    replace(head,
      engines.length > 1 ? button(t("engines.compare"), () => compare(engines)) : null,
      button(t("engines.measure"), async () => draw(await api.post("/api/engines/measure")), { title: t("engines.measure_hint") }),
      button(t("engines.add"), () => addDialog(offers, draw), { kind: "primary" }));
    replace(list, engines.length ? engines.map((one) => card(one, engines, draw)) : emptyState(t("engines.none"), t("engines.none_hint")), offers.map((one) => offered(one, offers, draw)));
  }
  api.get("/api/engines").then(draw, (error) => replace(list, note(error.message, "bad")));
  return () => { gone = true; };
}

/** Describes an engine's time compared with the fastest engine; "" if unknown. */
function slower(engine, engines) {
  const least = Math.min(...engines.map((one) => one.ms ?? Infinity));
  if (engine.ms === null || engines.length < 2) return "";
  return engine.ms > 1.05 * least ? t("engines.times", { times: number(engine.ms / least, 1) }) : t("engines.fastest");
}

const about = (engine) => textOr(`engines.about_${engine.name}`, engine.summary);

function card(engine, engines, draw) {
  const speed = engine.ms === null ? t("engines.not_measured") :
    `${t("engines.speed", { ms: number(engine.ms, 1) })} (${engine.device}, ${engine.precision})`;
  return h("li", { class: "card stack" },
    h("div", { class: "head" }, h("h2", {}, engine.name), h("div", { class: "row" },
      engine.default ? badge(t("engines.default"), "accent") : null, badge(engine.family))),
    h("p", {}, about(engine), " ", h("span", { class: "quiet-text" }, slower(engine, engines))),
    engine.fault ? note(engine.fault, "bad") : null,
    h("details", {}, h("summary", {}, t("engines.details")), h("dl", { class: "facts" }, [
      ["engines.licence", `${engine.licence_code}${engine.licence_weights === engine.licence_code ? "" : ` · ${t("engines.weights")} ${engine.licence_weights}`}`],
      ["engines.commercial", t(engine.commercial_use ? "engines.allowed" : "engines.forbidden")],
      ["engines.size", `${engine.size} × ${engine.size} · ${bytes(engine.bytes)}`],
      ["engines.speed_here", speed], ["engines.version", `${engine.version} · ${engine.origin}`]].map(([key, text]) => [h("dt", {}, t(key)), h("dd", {}, text)]))),
    engine.terms ? h("details", {}, h("summary", {}, t("engines.terms")), h("p", { class: "terms" }, engine.terms)) : null,
    engine.origin === "rtface" ? null : h("div", { class: "row" },
      button(t("engines.remove"), async () => {
        if (await confirm(t("engines.remove_title", { name: engine.name }), t("engines.remove_text"), t("engines.remove")))
          draw(await api.delete(`/api/engines/${encodeURIComponent(engine.name)}`));
      }, { kind: "small danger" })));
}

/** The row of a published engine that is not installed. */
const offered = (offer, offers, draw) => h("li", { class: "card stack" },
  h("div", { class: "head" }, h("h2", {}, offer.name), h("div", { class: "row" }, badge(t("engines.not_here")), badge(offer.family))),
  h("p", {}, about(offer)),
  h("p", { class: "quiet-text" }, [offer.bytes && bytes(offer.bytes), offer.licence_weights, t(offer.commercial_use ? "engines.commercial_yes" : "engines.commercial_no")].filter(Boolean).join(" · ")),
  button(t("engines.add"), () => addDialog(offers, draw, offer), { kind: "small", "aria-label": t("engines.add_name", { name: offer.name }) }));

const MOMENTS = [0.5, 0.25, 0.75, 0.1, 0.9]; // shares of the film's length; the first moment with a face is shown

/** Returns the film that was opened last. Opens a dialog and returns null if there is none. */
async function newestFilm(title) {
  const { films: [film] } = await api.get("/api/films");
  if (!film) dialog(title, note([t("engines.no_film"), " ", h("a", { href: "#/films" }, t("queue.choose"))]));
  return film ?? null;
}

/** Fetches a frame at a share of the film's length, restored by an engine. */
const frame = (film, share, name, layer) => api.blob(`/api/films/${film.id}/frame?${new URLSearchParams({
  time: String((film.duration_s ?? 0) * share), side: "1440", settings: JSON.stringify({ engine: name, correct: "always" }), layer })}`);

/** Finds the first of `MOMENTS` with a face, and the place of the largest face; null if no face is found. */
async function frameWithFace(film, name) {
  let moment, nose = null;
  for (moment of film.kind === "still" ? [0] : MOMENTS)
    if ((nose = JSON.parse((await frame(film, moment, name, "after")).headers.get("x-nose")))) break;
  return { moment, nose };
}

const CROP = 1.8; // width of the crop, in widths of the face

/** Shows the largest face of a frame, original and restored by each engine, side by side. */
async function compare(engines) {
  const film = await newestFilm(t("engines.compare"));
  if (!film) return;
  const said = h("p", { class: "quiet-text", role: "status" }, t("films.rendering"));
  const list = h("div", { class: "engine-faces" });
  dialog(t("engines.compare"), list, said).classList.add("wide");
  const { moment, nose } = await frameWithFace(film, engines[0].name);
  if (!nose) { said.textContent = t("engines.compare_none", { name: film.name }); return; }
  const add = async (title, text, blob) => {
    const picture = await createImageBitmap(blob), side = Math.min(CROP * nose[2] * picture.width, picture.width, picture.height);
    const at = (share, length) => Math.max(0, Math.min(length - side, share * length - side / 2));
    const canvas = h("canvas", { role: "img", "aria-label": title, width: 400, height: 400 });
    canvas.getContext("2d").drawImage(picture, at(nose[0], picture.width), at(nose[1], picture.height), side, side, 0, 0, 400, 400);
    list.append(h("figure", {}, canvas, h("figcaption", {}, h("strong", {}, title), " ", text)));
  };
  await add(t("engines.input"), "", await frame(film, moment, engines[0].name, "before"));
  for (const engine of engines.filter((one) => !one.fault)) await add(engine.name, slower(engine, engines), await frame(film, moment, engine.name, "after"));
  said.textContent = film.kind === "still" ? film.name : `${film.name}, ${clock((film.duration_s ?? 0) * moment, true)}`;
}

function addDialog(offers, draw, chosen = offers[0] ?? null) {
  const names = offers.map((offer) => [offer.name, `${offer.name} · ${offer.family} · ${offer.licence_weights}`]);
  let accepted = false;
  const terms = h("div", { class: "stack" });
  const file = h("input", { type: "text", spellcheck: "false" });
  const said = h("p", { role: "status", class: "quiet-text" });
  let adding = false;
  const end = on("engines", (event) => { if (adding) said.textContent = translated(event); }); // other messages belong to an earlier addition or another page
  const agree = check(t("engines.accept"), false, (now) => { accepted = now; });
  const show = () => {
    accepted = false; agree.show(false);
    replace(terms, chosen ? [h("p", {}, about(chosen)), h("dl", { class: "facts" },
      h("dt", {}, t("engines.licence")), h("dd", {}, `${chosen.licence_code} · ${t("engines.weights")} ${chosen.licence_weights}`),
      h("dt", {}, t("engines.commercial")), h("dd", {}, t(chosen.commercial_use ? "engines.allowed" : "engines.forbidden")),
      h("dt", {}, t("engines.data")), h("dd", {}, chosen.data),
      h("dt", {}, t("engines.file")), h("dd", {}, `${chosen.file}${chosen.bytes ? ` (${bytes(chosen.bytes)})` : ""}`),
      h("dt", {}, t("engines.address")), h("dd", {}, chosen.url)),
    h("div", { class: "terms", tabindex: 0, role: "region", "aria-label": t("engines.terms") }, chosen.terms)] : null);
  };
  const box = dialog(t("engines.add_title"),
    select(t("engines.engine"), [...names, ["", t("engines.other")]], chosen?.name ?? "", (name) => { chosen = offers.find((offer) => offer.name === name) ?? null; show(); }),
    terms, field(t("engines.from"), file, { help: t("engines.from_help") }), agree, said,
    h("div", { class: "row" }, button(t("engines.add"), async () => {
      adding = true;
      try { draw(await api.post("/api/engines/add", { name: chosen?.name ?? null, file: file.value || null, accepted })); } finally { adding = false; }
      box.close();
    }, { kind: "primary" })));
  box.addEventListener("close", end);
  show();
}
