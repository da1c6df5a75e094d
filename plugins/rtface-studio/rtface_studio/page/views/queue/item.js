// The state of a queue item, and its actions.
import { api } from "../../lib/api.js";
import { h } from "../../lib/dom.js";
import { clock, number, percent, t, translated } from "../../lib/text.js";
import { button, confirm } from "../../lib/ui.js";

const VERBS = {
  waiting: ["pause", "cancel"], running: ["pause", "cancel"], interrupted: ["cancel"], paused: ["resume", "cancel"],
  done: ["remove"], failed: ["retry", "remove"], cancelled: ["retry", "remove"],
};

/** Returns the message about an item's end; "" if there is none. */
export const saying = (item) => (item.state === "paused" ? (item.message ? t("queue.paused_hint") : item.started_at ? t("queue.halted_hint") : "") : translated(item));

/** Shows an item's progress as a bar and in words. The bar has no value if the film's length is unknown. */
export const progressBar = ({ share, state }) => h("progress", { max: 1, "aria-label": t("queue.progress"), ...(share === null && state === "running" ?
  { style: { "animation-delay": `-${performance.now() % 1600}ms` } } : // a redrawn bar continues the animation
  { value: share ?? 0 }) });
export const progressText = ({ share, left_s: left, fps }) => [share !== null && percent(share), left !== null && t("queue.left", { time: clock(left) }),
  fps && t("queue.fps", { fps: number(fps, 1) })].filter(Boolean).join(" · ");

/** The buttons for an item's state. Calls `changed(queue)` with the new queue after each action. */
export const verbs = (item, changed) => VERBS[item.state].map((verb) => button(t(`queue.${verb}`), async () => {
  if (verb === "cancel" && (item.state === "running" || item.share !== null) && !await confirm(t("queue.cancel_title"), t("queue.cancel_text"), t("queue.cancel_yes"), t("queue.cancel_no"))) return;
  changed(await api.post(`/api/queue/${item.id}/${verb}`));
}, { kind: "small", "data-key": `${item.id}-${verb}` }));
