// An item's result beside its source, played in sync; download; metadata of the file.
import { api, keyed } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { on } from "../../lib/events.js";
import { shortcuts } from "../../lib/keys.js";
import { clock, t, textOr } from "../../lib/text.js";
import { button, note, showError } from "../../lib/ui.js";
import { reportCard, reportOf, verifyCard } from "./report.js";
import { stepper } from "./stepper.js";
import { progressBar, progressText, saying, verbs } from "./item.js";

const DRIFT_S = 0.02; // more than this apart, the source is set to the result's time

/** Shows how far an item is, and its result once there is one. */
function waitForEnd(root, head, item) {
  const state = h("p", { role: "status" }), bar = h("div", {}), doing = h("div", { class: "row" });
  replace(root, head, h("section", { class: "card stack" }, state, bar, doing));
  let endResult = null, left = false, offered = null;
  async function draw({ items }) {
    const now = items.find((one) => one.id === item.id);
    if (!now) return; // this news is older than the item
    state.textContent = [t(`queue.state_${now.state}`), progressText(now), saying(now)].filter(Boolean).join(" · ");
    replace(bar, progressBar(now));
    if (now.state !== offered) replace(doing, verbs(now, (queue) => { if (queue.items.some((one) => one.id === item.id)) draw(queue); else location.hash = "#/queue"; }));
    offered = now.state;
    if (now.state !== "done" || endResult !== null) return;
    endResult = () => {};
    endResult = (await mountResult(root, item.id)) ?? endResult;
    if (left) endResult();
  }
  const end = on("queue", draw);
  draw({ items: [item] });
  return () => { left = true; end(); endResult?.(); };
}

const download = (item) => h("div", { class: "row" },
  h("a", { class: "button primary", href: keyed(`/api/queue/${item.id}/media/result?download`) }, t("queue.download")), h("code", {}, item.output));

/** The card with what the output of item `id` says about itself. */
function saysCard(id) {
  const says = h("div", { class: "stack" });
  api.get(`/api/queue/${id}/inspect/result`).then((found) => {
    const rows = { ...(found.source_type ? { digital_source_type: found.source_type } : {}), ...found.rtface };
    replace(says, found.lines.map((line) => h("p", {}, line)),
      h("dl", { class: "facts" }, Object.entries(rows).map(([key, value]) => [h("dt", {}, textOr(`queue.says_${key}`, key)), h("dd", {}, String(value))])),
      found.lines.length || Object.keys(rows).length ? null : h("p", { class: "quiet-text" }, t("queue.says_nothing")));
  }).catch(showError);
  return h("section", { class: "card stack" }, h("h2", {}, t("queue.says")), says);
}

/** Shows an enhanced photo over its source. */
function showStill(root, head, item) {
  const pictures = stepper(item.id, true), report = reportOf(item.id);
  replace(root, head, pictures.element, download(item), reportCard(item, report), verifyCard(item.id), saysCard(item.id));
  report.then(({ moment }) => pictures.look(moment));
  return () => pictures.end();
}

export async function mountResult(root, id) {
  const { items } = await api.get("/api/queue");
  const item = items.find((one) => one.id === id);
  const name = (path) => path.split(/[\\/]/).pop();
  const head = h("div", { class: "head" }, h("h1", {}, item ? name(item.output) : t("queue.title")), h("a", { class: "button", href: "#/queue" }, t("queue.back")));
  if (!item) { replace(root, head, note(t("queue.gone"), "warn")); return null; }
  if (item.state !== "done") return waitForEnd(root, head, item);
  if (!item.shown) { replace(root, head, note(t("queue.outside", { path: item.output }), "warn")); return null; }

  if (item.still) return showStill(root, head, item);
  const video = (which) => h("video", { src: keyed(`/api/queue/${id}/media/${which}`), preload: "auto", muted: which === "source", playsinline: true, "aria-label": t(`queue.${which}`) });
  const source = video("source"), result = video("result");
  const begins = item.options.start ?? 0; // a part of the source
  source.addEventListener("loadedmetadata", () => { source.currentTime = begins; }, { once: true });
  source.muted = true;
  const unplayable = h("div", { hidden: true });
  for (const [one, path] of [[source, item.input], [result, item.output]]) one.addEventListener("error", async () => {
    const gone = (await fetch(one.src, { method: "HEAD" })).status === 404;
    replace(unplayable, note(t(gone ? "queue.not_there" : "queue.unplayable", { path }), "warn"));
    unplayable.hidden = false;
  });
  const seek = h("input", { type: "range", min: 0, max: 1, step: 0.001, value: 0, "aria-label": t("queue.position") });
  const at = h("span", { class: "number" });
  const showTime = () => {
    const length = result.duration || 0;
    seek.max = length;
    seek.value = result.currentTime;
    at.textContent = `${clock(result.currentTime, true)} / ${clock(length, true)}`;
  };
  result.addEventListener("loadedmetadata", showTime);
  let ended = false;
  const follow = () => {
    if (ended) return;
    const wanted = result.currentTime + begins;
    if (Math.abs(source.currentTime - wanted) > DRIFT_S && !source.seeking) source.currentTime = wanted;
    showTime();
    requestAnimationFrame(follow);
  };
  requestAnimationFrame(follow);
  const play = button(t("queue.play"), async () => {
    if (result.paused) await Promise.all([source.play(), result.play()]);
    else { source.pause(); result.pause(); }
  }, { kind: "small" });
  result.addEventListener("pause", () => { source.pause(); play.textContent = t("queue.play"); });
  result.addEventListener("play", () => { play.textContent = t("queue.pause_playing"); });
  const go = (time) => {
    result.currentTime = Math.max(0, time);
    source.currentTime = begins + Math.max(0, time);
  };
  seek.addEventListener("input", () => go(Number(seek.value)));
  const steps = stepper(id, false, begins), report = reportOf(id);
  report.then(({ moment }) => steps.look(moment));
  replace(root, head, unplayable, steps.element,
    h("div", { class: "result-pair" }, h("figure", {}, source, h("figcaption", {}, t("queue.source"))), h("figure", {}, result, h("figcaption", {}, t("queue.result")))),
    h("div", { class: "film-transport" }, play, h("span", {}), seek, at, h("span", {})),
    download(item), reportCard(item, report), verifyCard(id), saysCard(id));
  const endKeys = shortcuts({
    " ": ["queue.play", () => play.click()], ",": ["films.key_back", async () => go(result.currentTime - await steps.frame())],
    ".": ["films.key_forward", async () => go(result.currentTime + await steps.frame())],
  });
  return () => { ended = true; endKeys(); steps.end(); source.pause(); result.pause(); };
}
