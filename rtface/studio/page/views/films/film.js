// One film: the player with its wipe, the controls, the analysis, and the start of the job.
import { api, ApiError } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { shortcuts } from "../../lib/keys.js";
import { clock, t } from "../../lib/text.js";
import { button, dialog, field, select, showError, slider, toast } from "../../lib/ui.js";
import { change, forget } from "../../lib/undo.js";
import { wipe } from "../../lib/wipe.js";
import { mountAnalysis } from "./analysis.js";
import { timeline } from "./timeline.js";

const DEFAULTS = { engine: "default", strength: 1, fidelity: 1, colour: "lock", region: "face" };
const memory = new Map(); // settings and time of each film while the page is open

export async function mountFilm(root, id) {
  const film = await api.get(`/api/films/${id}`);
  const kept = memory.get(id) ?? { settings: { ...DEFAULTS }, time: Math.min(1, (film.duration_s ?? 0) / 2) };
  memory.set(id, kept);
  forget();
  const player = wipe();
  player.element.style.setProperty("--aspect", `${film.width} / ${film.height}`);
  const info = h("p", { class: "quiet-text number", role: "status" }, t("films.loading"));
  const duration = film.duration_s ?? 0;
  const seek = h("input", { type: "range", min: 0, max: duration, step: 1 / film.fps, "aria-label": t("films.position") });
  const at = h("span", { class: "number" });
  let asking = null, wanted = false, urls = [];

  function showTime() {
    seek.value = kept.time;
    strip.at(kept.time);
    at.textContent = `${clock(kept.time, true)} / ${clock(duration, true)}`;
    seek.setAttribute("aria-valuetext", at.textContent);
  }

  // One request at a time: while one is on its way, only the newest wish is remembered.
  async function render() {
    showTime();
    if (asking) { wanted = true; return; }
    asking = new AbortController();
    const side = Math.min(2160, Math.ceil(Math.max(player.element.clientWidth * devicePixelRatio, player.factor ? Math.max(film.width, film.height) : 640)));
    const query = new URLSearchParams({ time: kept.time, side, settings: JSON.stringify(kept.settings) });
    info.textContent = t("films.rendering");
    try {
      const began = performance.now();
      const get = (layer) => api.blob(`/api/films/${id}/frame?${query}&layer=${layer}`, { signal: asking.signal });
      const after = await get("after");
      const before = await get("before");
      const now = [before, after].map((blob) => URL.createObjectURL(blob));
      await player.show(...now);
      urls.forEach((url) => URL.revokeObjectURL(url));
      urls = now;
      const faces = Number(after.headers.get("x-faces"));
      info.textContent = t("films.rendered", { count: faces, ms: Math.round(performance.now() - began) });
      player.element.dataset.time = after.headers.get("x-frame-time");
    } catch (error) {
      if (error.name !== "AbortError") {
        info.textContent = error.message;
        if (!(error instanceof ApiError)) showError(error);
      }
    }
    asking = null;
    if (wanted) { wanted = false; render(); }
  }

  const go = (time) => { kept.time = Math.min(Math.max(0, time), Math.max(0, duration - 1 / film.fps)); render(); };
  const strip = timeline(duration, go);
  const shot = (step) => { const start = strip.shot(kept.time, step); if (start !== null) go(start); };
  seek.addEventListener("input", () => go(Number(seek.value)));

  const controls = {
    engine: select(t("films.engine"), [["default", t("films.engine_default")], ["rtface-s", t("films.engine_light")]], kept.settings.engine, (value) => set("engine", value), { help: t("films.engine_help") }),
    strength: slider(t("films.strength"), kept.settings.strength, (value) => set("strength", value), { help: t("films.strength_help") }),
    fidelity: slider(t("films.fidelity"), kept.settings.fidelity, (value) => set("fidelity", value), { help: t("films.fidelity_help") }),
    colour: select(t("films.colour"), [["lock", t("films.colour_lock")], ["restore", t("films.colour_restore")]], kept.settings.colour, (value) => set("colour", value)),
    region: select(t("films.region"), [["face", t("films.region_face")], ["head", t("films.region_head")]], kept.settings.region, (value) => set("region", value)),
  };

  function set(name, value) {
    const old = kept.settings[name];
    const put = (now) => { kept.settings = { ...kept.settings, [name]: now }; controls[name].show(now); render(); };
    change(() => put(value), () => put(old), { group: name });
  }

  const zoomButton = button(t("films.zoom"), () => toggleZoom(), { kind: "small", "aria-pressed": "false" });
  function toggleZoom() {
    player.zoom(player.factor ? 0 : 1);
    zoomButton.setAttribute("aria-pressed", String(player.factor > 0));
    render();
  }

  const analysis = h("section", { class: "card stack", "aria-label": t("films.analysis") });
  const endAnalysis = mountAnalysis(analysis, id, go, strip.show);
  const startButton = button(t("films.start"), () => startDialog(film, kept.settings), { kind: "primary" });
  replace(root,
    h("div", { class: "head" }, h("div", {}, h("h1", {}, film.name),
      h("p", { class: "quiet-text number" }, `${film.width} × ${film.height} · ${film.fps.toFixed(2)} fps · ${film.codec} · ${clock(duration)}`)),
    h("div", { class: "row" }, h("a", { class: "button", href: "#/films" }, t("films.another")), startButton)),
    h("div", { class: "film-columns" },
      h("div", { class: "stack" }, player.element,
        h("div", { class: "film-transport" }, button("◂", () => go(kept.time - 1 / film.fps), { kind: "small", "aria-label": t("films.key_back") }),
          button("▸", () => go(kept.time + 1 / film.fps), { kind: "small", "aria-label": t("films.key_forward") }), seek, at, zoomButton), strip.element, info, analysis),
      h("aside", { class: "card stack", "aria-label": t("films.controls") }, h("h2", {}, t("films.controls")), Object.values(controls),
        button(t("films.reset"), () => {
          const old = kept.settings;
          const put = (now) => { kept.settings = { ...now }; for (const [name, control] of Object.entries(controls)) control.show(now[name]); render(); };
          return change(() => put(DEFAULTS), () => put(old));
        }, { kind: "small" }))));
  const frame = 1 / film.fps;
  const ending = new AbortController();
  addEventListener("keyup", (event) => { if (event.key === "b") player.only(null); }, { signal: ending.signal });
  const endKeys = shortcuts({
    ArrowLeft: ["films.key_back", () => go(kept.time - frame)], ArrowRight: ["films.key_forward", () => go(kept.time + frame)],
    ",": ["films.key_back", () => go(kept.time - frame)], ".": ["films.key_forward", () => go(kept.time + frame)],
    ArrowUp: ["films.key_shot_back", () => shot(-1)], ArrowDown: ["films.key_shot_forward", () => shot(1)],
    j: ["films.key_second_back", () => go(kept.time - 1)], l: ["films.key_second_forward", () => go(kept.time + 1)],
    b: ["films.key_before", () => player.only("before")], z: ["films.zoom", toggleZoom], s: ["films.start", () => startButton.click()],
  });
  render();
  return () => {
    ending.abort(); endKeys(); endAnalysis(); asking?.abort();
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

async function startDialog(film, settings) {
  const { output } = await api.get(`/api/films/${film.id}/output`);
  const name = h("input", { type: "text", value: output });
  const box = dialog(t("films.start_title"), field(t("films.output"), name, { help: t("films.output_help") }),
    h("p", {}, t("films.start_note")),
    h("div", { class: "row" }, button(t("films.start"), async () => {
      const changed = Object.fromEntries(Object.entries(settings).filter(([key, value]) => value !== DEFAULTS[key]));
      const { item } = await api.post(`/api/films/${film.id}/start`, { output: name.value, settings: changed });
      box.close();
      toast(t("films.started"), { action: h("a", { href: `#/queue/${item}` }, t("films.to_queue")) });
    }, { kind: "primary" })));
}
