// One film: the player with its wipe, the controls, the analysis, and the start of the job.
import { api, ApiError } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { on } from "../../lib/events.js";
import { shortcuts } from "../../lib/keys.js";
import { clock, t } from "../../lib/text.js";
import { button, check, select, showError } from "../../lib/ui.js";
import { wipe, zoomControls } from "../../lib/wipe.js";
import { clearest, mountAnalysis, proposed, reasonOf } from "./analysis.js";
import { clips } from "./clip.js";
import { changed, DEFAULTS, filmControls, useChoices } from "./controls.js";
import { mountSheet } from "./sheet.js";
import { startDialog } from "./start.js";
import { timeline } from "./timeline.js";

const memory = new Map(); // time and layer of each film, kept while the page is open
const TAB = Math.random().toString(36).slice(2); // distinguishes this page's changes from those of other pages
const CLIP_S = 4; // length of a clip
const NEAR_S = 0.1; // maximum distance of the shown frame from the requested time
let sending = Promise.resolve(); // ends when all settings have been sent to the server

export async function mountFilm(root, id) {
  await sending;
  const [film, loaded, choices] = await Promise.all([api.get(`/api/films/${id}`), api.get(`/api/films/${id}/settings`), api.get("/api/choices")]);
  const kept = memory.get(id) ?? { time: Math.min(1, (film.duration_s ?? 0) / 2), layer: "after" };
  useChoices(choices);
  kept.settings = { ...DEFAULTS, shots: [], persons: {}, ...loaded };
  memory.set(id, kept);
  const player = wipe();
  player.element.style.setProperty("--aspect", `${film.width} / ${film.height}`);
  const info = h("p", { class: "quiet-text number", role: "status" }, t("films.loading"));
  const legend = h("p", { class: "legend", hidden: true }, h("span", { class: "legend-bar", "aria-hidden": "true" }), t("films.legend"));
  let duration = film.duration_s ?? 0;
  const seek = h("input", { type: "range", min: 0, max: duration, step: 1 / film.fps, "aria-label": t("films.position") });
  const at = h("span", { class: "number" });
  const clip = clips(id, player, (text, playing) => {
    player.busy(text ?? "");
    replace(info, text, playing && Object.keys(kept.settings.persons).length ? ` ${t("films.clip_no_persons")}` : null);
    play.textContent = clip.on ? t("films.clip_stop") : t("films.clip_play");
    if (!clip.on && text === null) render();
  });
  const play = button(t("films.clip_play"), () => {
    kept.moved = true;
    return clip.on ? clip.stop() : clip.play(Math.max(0, Math.min(kept.time, duration - CLIP_S)), changed(kept.settings));
  }, { kind: "small" });
  let waits = false; // whether films wait for a live run with a viewer
  const rendering = () => t(waits ? "queue.waits" : "films.rendering");
  let asking = null, wanted = false, ended = false, urls = [], keeping = null, unchanged = false;
  const endQueue = on("queue", (queue) => { waits = queue.waits; if (asking) player.busy(rendering()); });

  function showTime() {
    seek.value = kept.time;
    strip.at(kept.time);
    controls.at(kept.time);
    at.textContent = `${clock(kept.time, true)} / ${clock(duration, true)}`;
    seek.setAttribute("aria-valuetext", at.textContent);
  }

  // One request at a time. During a request, only the newest one waits.
  async function render() {
    if (ended) return;
    showTime();
    if (asking) { wanted = true; return; }
    asking = new AbortController();
    const share = player.share;
    const side = Math.min(2160, Math.ceil(Math.max(player.element.clientWidth * devicePixelRatio, !player.factor ? 640 : kept.settings.scale !== "1" ? 2160 : Math.max(film.width, film.height))));
    const shots = kept.settings.shots.filter((one) => one.start_s <= kept.time + NEAR_S && one.end_s >= kept.time - NEAR_S); // only these, because an address cannot contain all shots
    const query = new URLSearchParams({ time: kept.time, side: String(side), settings: JSON.stringify(changed({ ...kept.settings, shots })) });
    info.textContent = t("films.rendering");
    player.busy(rendering());
    try {
      const get = (layer) => api.blob(`/api/films/${id}/frame?${query}&layer=${layer}`, { signal: asking.signal });
      const before = await get("before");
      if (!urls.length) { // shows the original at once, and the wipe when it is ready
        urls = [URL.createObjectURL(before)];
        player.only("before");
        await player.show(urls[0], urls[0]);
      }
      const after = await get(kept.layer);
      const now = [before, after].map((blob) => URL.createObjectURL(blob));
      await player.show(...now);
      player.only(null);
      urls.forEach((url) => URL.revokeObjectURL(url));
      urls = now;
      if (ended) urls.forEach((url) => URL.revokeObjectURL(url));
      const faces = Number(after.headers.get("x-faces")), left = JSON.parse(after.headers.get("x-left-alone") ?? "[]");
      const nose = JSON.parse(after.headers.get("x-nose"));
      if (!wanted && !kept.wiped && nose && player.share === share) { // so that the line divides the face
        player.set(nose[0]);
        kept.wiped = player.share;
      }
      unchanged = film.kind === "still" && left.length === faces && kept.settings.scale === "1";
      replace(info, ...done(faces, left));
      legend.hidden = kept.layer !== "invented";
      player.label(t(legend.hidden ? "app.wipe_after" : "films.label_invented"));
      player.element.dataset.time = after.headers.get("x-frame-time");
    } catch (error) {
      if (error.name !== "AbortError") {
        info.textContent = error.message;
        if (!(error instanceof ApiError)) showError(error);
      }
    }
    asking = null;
    if (!wanted) player.busy("");
    if (wanted) { wanted = false; render(); }
  }

  /** Shows the number of faces, the uncorrected ones with reasons, and a button that enhances these, too. */
  const done = (faces, left) => [t("films.rendered", { count: faces }), left.length ? ` ${t("films.rendered_left", { count: left.length, why: [...new Set(left.map(reasonOf))].join("; ") })} ` : null,
    left.length && kept.settings.correct === "auto" ? button(t("films.anyway"), () => controls.always(), { kind: "small" }) : null];

  const show = (time) => { kept.time = Math.min(Math.max(0, time), Math.max(0, duration - 1 / film.fps)); clip.stop(); render(); };
  const go = (time) => { kept.moved = true; show(time); };
  const strip = timeline(duration, go, seek);
  /** Stores the length that the analysis has reached, if the film's header has none (for example in an interrupted recording). */
  function lasts(seconds) {
    if (seconds <= duration) return;
    seek.max = duration = seconds;
    strip.lasts(seconds);
    showTime();
  }
  const shot = (step) => { const start = strip.shot(kept.time, step); if (start !== null) go(start); };
  seek.addEventListener("input", () => go(Number(seek.value)));

  const controls = filmControls(kept, choices.engines, () => {
    strip.show(null, kept.settings.persons);
    kept.moved = true;
    clip.stop();
    render();
    analysed.again();
    clearTimeout(keeping);
    keeping = setTimeout(keep, 400);
  }, { still: film.kind === "still" });
  function keep() {
    keeping = null;
    sending = api.put(`/api/films/${id}/settings?by=${TAB}`, changed(kept.settings)).catch(showError);
  }
  const endSettings = on(`film/${id}/settings`, ({ by, settings }) => { // another page has changed them; later changes of this page are sent afterwards
    if (by === TAB || keeping) return;
    controls.take({ ...DEFAULTS, shots: [], persons: {}, ...settings });
    strip.show(null, kept.settings.persons);
    render();
  });
  const layer = select(t("films.layer"), [["after", t("films.layer_after")], ["invented", t("films.layer_invented")]], kept.layer, (value) => { kept.layer = value; render(); });

  const zoom = zoomControls(player, () => render(), film.width);

  const more = h("div", { class: "stack", role: "status" }); // suggestions for a more visible correction
  const analysis = h("section", { class: "card stack", "aria-label": t("films.analysis") });
  const analysed = mountAnalysis(analysis, id, go, (result, state) => {
    if (film.duration_s === null) lasts(result.scenes?.at(-1)?.end_s ?? 0);
    strip.show(result, kept.settings.persons);
    controls.found(result, state);
    replace(more, state.whole ? proposed(result, controls.choose) : null);
    const moment = kept.moved ? null : clearest(result, state.whole); // first shows the face that gains most
    if (moment !== null) {
      kept.moved = true;
      if (kept.wiped === player.share) kept.wiped = 0; // otherwise the user has moved the line
      show(moment);
    }
  }, { still: film.kind === "still", options: () => ({ scale: kept.settings.scale, look: kept.settings.look }), strength: () => kept.settings.strength });
  const sheet = h("section", { class: "card stack", "aria-label": t("films.sheet") });
  const endSheet = mountSheet(sheet, id, () => changed(kept.settings), (values) => controls.choose(values));
  const startButton = button(t("films.start"), () => startDialog(film, changed(kept.settings), { unchanged: unchanged && !kept.settings.repair }), { kind: "primary" });
  replace(root,
    h("div", { class: "head" }, h("div", {}, h("h1", {}, film.name),
      h("p", { class: "quiet-text number" }, `${film.width} × ${film.height} · ${film.codec}${film.kind === "still" ? "" : ` · ${film.fps.toFixed(2)} fps${duration ? ` · ${clock(duration)}` : ""}`}`)),
    h("div", { class: "row" }, h("a", { class: "button", href: "#/films" }, t("films.another")), startButton)),
    h("div", { class: "film-columns" },
      h("div", { class: "stack" }, player.element, info, more, film.kind === "still" ? h("div", { class: "row" }, zoom.button, h("a", { class: "button small", href: `#/films/${id}/damage` }, t("films.damage")),
        kept.settings.repair ? check(t("films.damage_use"), true, (value) => { kept.settings = { ...kept.settings, repair: value }; keep(); }) : null) : [strip.element,
        h("div", { class: "row" }, play, button("−1", () => go(kept.time - 1 / film.fps), { kind: "small", "aria-label": t("films.key_back"), title: t("films.key_back") }),
          button("+1", () => go(kept.time + 1 / film.fps), { kind: "small", "aria-label": t("films.key_forward"), title: t("films.key_forward") }), at, zoom.button)],
        layer, legend),
      controls.element, h("div", { class: "stack film-below" }, analysis, sheet)));
  const frame = 1 / film.fps;
  const ending = new AbortController();
  addEventListener("keyup", (event) => { if (event.key === "b") player.only(null); }, { signal: ending.signal });
  const endKeys = shortcuts({
    ArrowLeft: ["films.key_back", () => go(kept.time - frame)], ArrowRight: ["films.key_forward", () => go(kept.time + frame)],
    ",": ["films.key_back", () => go(kept.time - frame)], ".": ["films.key_forward", () => go(kept.time + frame)],
    ArrowUp: ["films.key_shot_back", () => shot(-1)], ArrowDown: ["films.key_shot_forward", () => shot(1)],
    j: ["films.key_second_back", () => go(kept.time - 1)], l: ["films.key_second_forward", () => go(kept.time + 1)],
    ...(film.kind === "still" ? {} : { " ": ["films.key_play", () => play.click()] }),
    b: ["films.key_before", () => player.only("before")], ...zoom.keys, i: ["films.key_invented", () => { kept.layer = kept.layer === "after" ? "invented" : "after"; layer.show(kept.layer); render(); }], s: ["films.start", () => startButton.click()],
  });
  render();
  return () => {
    ended = true;
    if (keeping) { clearTimeout(keeping); keep(); }
    ending.abort(); endQueue(); endKeys(); endSettings(); analysed.end(); endSheet(); clip.end(); asking?.abort();
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}
