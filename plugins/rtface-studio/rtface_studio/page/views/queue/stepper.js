// Source and result frame by frame, rendered on the server: for films that a browser cannot play, and for a close look.
import { api } from "../../lib/api.js";
import { h } from "../../lib/dom.js";
import { shortcuts } from "../../lib/keys.js";
import { clock, t } from "../../lib/text.js";
import { button, showError } from "../../lib/ui.js";
import { wipe, zoomControls } from "../../lib/wipe.js";

/**
 * The comparison of item `id`: {element, show(time), look(moment), frame(), end()}. A `still` has one frame. `begins`: time in the source at which the result
 * starts. Fetches nothing before `show` or `look`. `frame()` returns the duration of one frame of the result in seconds.
 */
export function stepper(id, still = false, begins = 0) {
  const player = wipe(), zoom = zoomControls(player), endKeys = shortcuts(zoom.keys);
  const at = h("span", { class: "number" });
  let time = 0, seconds = 0, side = 0, urls = [], asking = false, wanted = null, ended = false;
  const get = async (which, at) => {
    const blob = await api.blob(`/api/queue/${id}/frame/${which}?time=${at + (which === "source" ? begins : 0)}`);
    if (which === "result") [seconds, side] = [Number(blob.headers.get("x-frame-seconds")) || 1 / 25, Number(blob.headers.get("x-frame-side"))];
    return blob;
  };

  async function show(next) {
    if (asking) { wanted = next; return; }
    asking = true;
    time = Math.max(0, next);
    try {
      const blobs = await Promise.all(["source", "result"].map((which) => get(which, time)));
      const now = blobs.map((blob) => URL.createObjectURL(blob));
      await player.show(...now);
      const image = player.element.querySelector("img");
      player.element.style.setProperty("--aspect", `${image.naturalWidth} / ${image.naturalHeight}`);
      urls.forEach((url) => URL.revokeObjectURL(url));
      urls = now;
      if (ended) urls.forEach((url) => URL.revokeObjectURL(url));
      at.textContent = clock(time, true);
      player.element.dataset.time = +time.toFixed(3);
    } catch (error) {
      if (!ended) showError(error);
    }
    asking = false;
    if (wanted !== null && !ended) { const then = wanted; wanted = null; show(then); }
  }
  const step = (by, label) => button(label, () => show(time + by()), { kind: "small" });
  const element = h("section", { class: "stack", "aria-label": t("queue.compare") }, player.element,
    h("div", { class: "row" }, zoom.button, still ? null : [step(() => -1, "− 1 s"), step(() => -seconds, "◂"), step(() => seconds, "▸"), step(() => 1, "+ 1 s"), at]));
  async function frame() {
    if (!seconds) await get("result", 0);
    return seconds;
  }
  /** Shows the moment of a report at its face, enlarged; without one the first frame. */
  async function look(moment) {
    await show(moment ? moment.at_s - begins : 0);
    const { naturalWidth, naturalHeight } = player.element.querySelector("img");
    if (!moment || !side || !naturalWidth) return;
    player.look(moment.box.map((value) => value * Math.max(naturalWidth, naturalHeight) / side));
    zoom.show();
  }
  return { element, show, look, frame, end() { ended = true; endKeys(); urls.forEach((url) => URL.revokeObjectURL(url)); } };
}
