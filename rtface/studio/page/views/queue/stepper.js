// Source and result frame by frame, rendered on the server: for films that a browser cannot play, and for a close look.
import { api } from "../../lib/api.js";
import { h } from "../../lib/dom.js";
import { clock, t } from "../../lib/text.js";
import { button, showError } from "../../lib/ui.js";
import { wipe } from "../../lib/wipe.js";

/** The comparison of item `id`, of one frame where it is a `still`: {element, show(time), end()}; nothing is asked for before `show`. */
export function stepper(id, still = false) {
  const player = wipe();
  const at = h("span", { class: "number" });
  let time = 0, urls = [], asking = false, wanted = null;

  async function show(next) {
    if (asking) { wanted = next; return; }
    asking = true;
    time = Math.max(0, next);
    try {
      const blobs = await Promise.all(["source", "result"].map((which) => api.blob(`/api/queue/${id}/frame/${which}?time=${time}`)));
      const now = blobs.map((blob) => URL.createObjectURL(blob));
      await player.show(...now);
      const image = player.element.querySelector("img");
      player.element.style.setProperty("--aspect", `${image.naturalWidth} / ${image.naturalHeight}`);
      urls.forEach((url) => URL.revokeObjectURL(url));
      urls = now;
      at.textContent = clock(time, true);
      player.element.dataset.time = time;
    } catch (error) {
      showError(error);
    }
    asking = false;
    if (wanted !== null) { const then = wanted; wanted = null; show(then); }
  }
  const step = (seconds, label) => button(label, () => show(time + seconds), { kind: "small" });
  const element = h("section", { class: "stack", "aria-label": t("queue.compare") }, player.element,
    still ? null : h("div", { class: "row" }, step(-1, "− 1 s"), step(-0.04, "◂"), step(0.04, "▸"), step(1, "+ 1 s"), at));
  return { element, show, end() { urls.forEach((url) => URL.revokeObjectURL(url)); } };
}
