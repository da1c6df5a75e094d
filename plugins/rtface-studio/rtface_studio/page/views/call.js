// Call: the camera, large, with the controls that a call needs. Shows whether a program reads the virtual camera.
import { api } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { on } from "../lib/events.js";
import { percent, t, translated } from "../lib/text.js";
import { badge, button, dialog, note, select } from "../lib/ui.js";
import { forget } from "../lib/undo.js";
import { verdict } from "./films/analysis.js";
import { useChoices } from "./films/controls.js";
import { runControls } from "./live/controls.js";
import { figuresOf, shortened, troubles } from "./live/figures.js";
import { livePicture } from "./live/picture.js";
import { LAST_CALL, virtualCamera } from "./live/setup.js";

const REST_MS = 60_000; // time without a reader and without a touch after which the page stops its picture, so that the run can rest
const HELD_MS = 5000; // the lowest quality of this time is shown, because it changes often
const QUALITIES = ["good", "better", "best"];

/** Returns the index of the lowest quality of the faces in QUALITIES; -1 if a face is not enhanced. */
const qualityOf = (ladder) => Math.min(...(ladder || "full").split(", ").map((level) => (level === "pass-through" ? -1 : level.startsWith("small") ? 0 : level === "full" ? 2 : 1)));

export async function mount(root) {
  let [{ devices }, { presets }, choices, run] = await Promise.all(["live/devices", "live/presets", "choices", "live"].map((path) => api.get(`/api/${path}`)));
  useChoices(choices);
  let { source = "", settings = {} } = presets[LAST_CALL] ?? {}, kept = "";
  let picture = null, controls = null, drawn = null, changing = false, left = false, resting = false, touched = Date.now(), lowest = [];
  const leaving = new AbortController();
  const stage = h("div", { class: "stack" }), panel = h("section", { class: "card stack", "aria-label": t("films.controls") });
  const program = h("section", { class: "card stack" }), target = h("div", { class: "stack" }), reading = h("p", { class: "row", role: "status" });
  const alerts = h("div", { class: "stack", role: "status" }), more = h("p", { class: "quiet-text" }, t("call.worse"));
  const stop = button(t("call.stop"), async () => show(await api.post("/api/live/stop")), { kind: "danger" });
  const scale = QUALITIES.map((name) => badge(t(`call.${name}`))), figures = h("dl", { class: "facts number" });
  const quality = h("details", { class: "card" }, h("summary", {}, h("strong", {}, t("call.quality")), scale.map((one) => [" ", one])), more, figures);

  const of = (kind) => devices.filter((one) => one.kind === kind).map((one) => [one.address, one.name]);
  const cameras = () => of("camera");
  const camera = () => (cameras().some(([address]) => address === source) ? source : cameras()[0]?.[0] ?? standIn());
  const standIn = () => (/^(vcam|null):/.test(run.output) && !run.source.startsWith("camera:") ? run.source : undefined); // a film instead of a camera
  const own = () => ["starting", "running"].includes(run.state) && /^(vcam|null):/.test(run.output); // other runs belong to "live"

  /** Sends a request that starts the run anew. Ignores that the earlier run ends. */
  async function renew(...requests) {
    changing = true;
    picture?.player.busy(t("call.starting"));
    try {
      for (const [path, body] of requests) run = await api.post(`/api/live/${path}`, body);
    } finally {
      changing = false;
      show(run);
    }
  }
  const begin = () => renew(...(["starting", "running"].includes(run.state) ? [["stop"]] : []),
    ["start", { source: camera(), output: of("virtual camera").length ? "vcam:" : "null:", settings }]);

  /** Tests the camera, and shows its picture with each setting. */
  async function test() {
    const result = h("div", { class: "stack", role: "status" }, t("call.testing")), box = dialog(t("call.test"), result);
    const effect = ({ option, verdict: said, brightness }, { brightness: before }) => (option === "light" ? t("call.brightness", { before: percent(before), after: percent(brightness) }) : verdict({ on: true, verdict: said }));
    try {
      const found = await api.post("/api/live/test", { source: camera() ?? "camera:" });
      replace(result, h("p", {}, h("strong", {}, translated(found.advice))),
        h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": t("call.test") }, h("img", { src: found.picture, alt: t("call.test_picture"), style: { "max-width": "none" } })),
        h("dl", { class: "facts" }, found.trials.map((one) => [h("dt", {}, `--${one.option} ${one.value}`), h("dd", {}, effect(one, found))])));
    } catch (error) {
      box.close();
      throw error;
    }
  }

  async function again() {
    ({ devices } = await api.get("/api/live/devices"));
    const found = of("virtual camera").length > 0;
    drawn = null;
    if (camera() && (found || !own())) await begin(); else show(run);
    return found;
  }

  /** Draws the parts that depend on whether the run is on. */
  function draw() {
    picture?.watch(false);
    controls?.end();
    forget();
    picture = controls = null;
    panel.hidden = program.hidden = quality.hidden = stop.hidden = alerts.hidden = !own();
    if (!own()) {
      const other = ["starting", "running"].includes(run.state);
      replace(stage, h("div", { class: "empty call-off" }, run.state === "failed" ? note([h("p", {}, h("strong", {}, t("live.failed"))), h("p", {}, translated(run.error))], "bad") : null,
        other ? [h("p", {}, t("call.other", { source: shortened(run.source), output: shortened(run.output) })), h("a", { href: "#/live" }, t("app.nav_live"))] : null,
        camera() ? [h("h2", {}, t("call.off")), button(t(other ? "call.instead" : "call.start"), begin, { kind: "primary" })] :
          [h("h2", {}, t("live.no_camera")), button(t("live.no_camera_hint"), again)]));
      return;
    }
    picture = livePicture();
    picture.player.set(0);
    picture.player.label(t("call.gets"));
    controls = runControls(run, ["look", "light", "strength"], picture.player, (now) => renew(["restart", { settings: now }]), true);
    replace(stage, picture.player.element, controls.remarks);
    replace(panel, controls.power, Object.values(controls.sliders),
      cameras().length > 1 ? select(t("live.camera"), cameras(), run.source, (value) => { source = value; return begin(); }) : null);
    replace(program, h("h2", {}, t("call.program")), target);
    replace(target, run.output.startsWith("vcam:") ? reading : of("virtual camera").length ? button(t("call.to_camera"), begin, { kind: "primary" }) : virtualCamera(again, true));
  }

  function show(now) {
    if (left || changing) return;
    run = now;
    const key = [own(), run.state === "failed", run.output].join();
    if (key !== drawn) { drawn = key; draw(); }
    if (!own()) return;
    const { status } = run;
    picture.player.busy(status && picture.player.element.dataset.pairs ? "" : t("call.starting"));
    if (!status) return;
    controls.update(status);
    replace(alerts, troubles(status).map((text) => note(text, "warn")));
    drawReading(status);
    drawQuality(status);
    remember(status);
  }

  function drawReading(status) {
    const sink = status.sinks.find(({ name }) => name.startsWith("vcam:"));
    if (sink?.wanted !== false) touched = Date.now();
    const rests = Date.now() - touched > REST_MS;
    if (rests !== resting) picture.watch(!(resting = rests));
    if (rests || status.paused === "no viewers") picture.player.busy(t("call.rests"));
    if (!sink) return;
    const name = sink.detail.replace(/ \(.*\)$/, "") || "rtface", state = { true: "read", false: "unread" }[sink.wanted] ?? "unknown";
    if (reading.dataset.state === sink.detail + state) return; // so that it is announced once
    reading.dataset.state = sink.detail + state;
    replace(reading, badge(t(`call.${state}`), state === "read" ? "good" : ""));
    replace(target, h("p", {}, t(sink.detail.endsWith("(PipeWire)") ? "call.choose_pipewire" : "call.choose"), " ", h("strong", { class: "call-name" }, name)), reading, h("p", { class: "quiet-text" }, t(state === "read" ? "call.read_help" : "call.unread_help")));
  }

  function drawQuality(status) {
    const now = Date.now(), works = status.enabled && status.faces > 0 && !status.paused;
    lowest = [...lowest, [now, qualityOf(status.ladder)]].filter(([at]) => works && now - at < HELD_MS);
    const level = Math.min(...lowest.map(([, one]) => one));
    scale.forEach((one, k) => { one.className = k === level ? "badge accent" : "badge"; one.ariaHidden = String(k !== level); });
    more.hidden = level > 1;
    replace(figures, figuresOf(status));
  }

  /** Stores camera, look, light and strength when they have changed. */
  function remember({ look, light, strength }) {
    const now = { source: run.source, output: "vcam:", settings: { ...settings, look, light, strength } }, text = JSON.stringify(now);
    if (kept && text !== kept) api.put(`/api/live/presets/${encodeURIComponent(LAST_CALL)}`, now).catch(() => {}); // the call goes on without it
    kept = text;
    settings = now.settings;
  }

  replace(root, h("div", { class: "head" }, h("h1", {}, t("app.nav_call")), h("div", { class: "row" }, h("a", { href: "#/live" }, t("call.more")), button(t("call.test"), test), stop)),
    h("div", { class: "live-columns" }, stage, h("div", { class: "stack live-side" }, panel, alerts), h("div", { class: "stack" }, program, quality)));
  for (const kind of ["pointermove", "pointerdown", "keydown"]) addEventListener(kind, () => { touched = Date.now(); }, { signal: leaving.signal });
  show(run);
  const endEvents = on("live", (now) => { if (now.state !== "none") show(now); });
  if (run.state === "none" && camera() && root.isConnected) begin().catch(() => {});
  return () => { left = true; leaving.abort(); endEvents(); picture?.watch(false); controls?.end(); };
}
