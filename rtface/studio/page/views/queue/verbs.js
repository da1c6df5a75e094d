// What can be done with an item of the queue, as buttons.
import { api } from "../../lib/api.js";
import { t } from "../../lib/text.js";
import { button, confirm } from "../../lib/ui.js";

const VERBS = {
  waiting: ["pause", "cancel"], running: ["pause", "cancel"], interrupted: ["cancel"], paused: ["resume", "cancel"],
  done: ["remove"], failed: ["retry", "remove"], cancelled: ["retry", "remove"],
};

/** The buttons of an item in its state; `changed(queue)` gets the queue after each. */
export const verbs = (item, changed) => VERBS[item.state].map((verb) => button(t(`queue.${verb}`), async () => {
  if (verb === "cancel" && item.state === "running" && !await confirm(t("queue.cancel_title"), t("queue.cancel_text"), t("queue.cancel"))) return;
  changed(await api.post(`/api/queue/${item.id}/${verb}`));
}, { kind: "small", "data-key": `${item.id}-${verb}` }));
