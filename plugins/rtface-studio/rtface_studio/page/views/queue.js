// The queue: running, waiting and ended items; and an item's result beside its source.
import { api } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { on } from "../lib/events.js";
import { clock, span, t } from "../lib/text.js";
import { badge, button, emptyState, note } from "../lib/ui.js";
import { mountResult } from "./queue/result.js";
import { progressBar, progressText, saying, verbs } from "./queue/item.js";

const KINDS = { running: "accent", done: "good", failed: "bad", interrupted: "warn", paused: "warn" };

export async function mount(root, { argument }) {
  if (argument[0]) return mountResult(root, Number(argument[0]));
  const list = h("div", { class: "stack" });
  const runner = h("div", {});
  const all = h("div", { class: "row" });
  const total = h("p", { class: "quiet-text number" });
  replace(root, h("div", { class: "head" }, h("h1", {}, t("queue.title")), all), total, runner, list);
  /** A button that applies one action to all items in some states. */
  const forAll = (items, states, verb, text) => {
    const some = items.filter((item) => states.includes(item.state)).reverse(); // the running item last, because otherwise the next one would start
    return some.length > 1 ? button(t(`queue.${text}`), async () => {
      let queue;
      for (const { id } of some) queue = await api.post(`/api/queue/${id}/${verb}`);
      draw(queue);
    }, { kind: "small", "data-key": text }) : null;
  };
  const draw = ({ items, running, waits: live, left }) => {
    if (left) total.textContent = left.seconds === null ? "" : t(left.all ? "queue.all_left" : "queue.some_left", { time: left.all ? span(left.seconds, left.most) : clock(left.seconds) });
    const waits = items.some((item) => ["waiting", "interrupted"].includes(item.state));
    replace(runner, waits && !running ? note([h("p", {}, t("queue.stopped")), button(t("queue.run"), () => api.post("/api/queue/run"), { kind: "primary small" })], "warn") :
      live && (waits || items.some((item) => item.state === "running")) ? note([h("p", {}, t("queue.waits")),
        button(t("queue.go_on"), () => api.post("/api/live/films_wait", { value: false }), { kind: "small" })]) : null);
    keepFocus(all, () => replace(all, forAll(items, ["waiting", "running"], "pause", "pause_all"), forAll(items, ["paused"], "resume", "resume_all"), forAll(items, ["done", "failed", "cancelled"], "remove", "remove_ended")));
    keepFocus(list, () => replace(list, items.length ? items.map((item) => card(item, items, draw)) :
      emptyState(t("queue.empty"), t("queue.empty_hint"), h("a", { class: "button primary", href: "#/films" }, t("queue.choose")))));
  };
  draw(await api.get("/api/queue"));
  return on("queue", draw);
}

/** Redraws, and keeps the focus on the same button. */
function keepFocus(list, draw) {
  const key = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.key;
  draw();
  if (key) list.querySelector(`[data-key="${key}"]`)?.focus();
}

const base = (path) => path.split(/[\\/]/).pop();

function card(item, items, draw) {
  const move = async (place) => draw(await api.post(`/api/queue/${item.id}/move`, { place }));
  const waiting = items.filter((one) => ["waiting", "paused"].includes(one.state));
  const place = waiting.indexOf(item);
  return h("article", { class: "card stack queue-item", "aria-label": base(item.output) },
    h("div", { class: "head" }, h("div", {}, h("h2", {}, h("a", { href: `#/queue/${item.id}` }, base(item.output))),
      h("p", { class: "quiet-text" }, t("queue.from", { name: base(item.input) }))), badge(t(`queue.state_${item.code === "ended_copy" ? "unchanged" : item.state}`), KINDS[item.state] ?? "")),
    ["running", "paused", "interrupted"].includes(item.state) ? [
      progressBar(item), h("p", { class: "number quiet-text" }, progressText(item))] : null,
    saying(item) ? h("p", { class: item.state === "failed" ? "queue-message bad" : "queue-message" }, saying(item)) : null,
    h("div", { class: "row" },
      item.state === "done" ? h("a", { class: "button small primary", href: `#/queue/${item.id}` }, t("queue.show")) : null,
      verbs(item, draw),
      place > 0 ? button(t("queue.earlier"), () => move(place), { kind: "small", "data-key": `${item.id}-earlier` }) : null,
      place >= 0 && place < waiting.length - 1 ? button(t("queue.later"), () => move(place + 2), { kind: "small", "data-key": `${item.id}-later` }) : null));
}
