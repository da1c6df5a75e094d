// The picture of a live run, before and after, with a wipe between them.
import { h, replace } from "../../lib/dom.js";
import { watchPreview } from "../../lib/preview.js";
import { t } from "../../lib/text.js";
import { note } from "../../lib/ui.js";
import { wipe } from "../../lib/wipe.js";

/** Shows the run's preview; `watch(false)` ends this, `watch(true)` begins it again. `refusal` is an element with the server's message if it rejects the preview. */
export function livePicture() {
  const pictures = ["before", "after"].map((name) => h("canvas", { role: "img", "aria-label": t(`app.wipe_${name}`), width: 16, height: 9 }));
  const player = wipe(...pictures), refusal = h("div", { class: "stack", role: "status" });
  let pairs = 0, watching = null;
  function show(pair) {
    const width = pair.width / 2, { height } = pair;
    pictures.forEach((canvas, k) => {
      if (canvas.width !== width || canvas.height !== height) {
        Object.assign(canvas, { width, height });
        player.element.style.setProperty("--aspect", `${width} / ${height}`);
      }
      canvas.getContext("2d").drawImage(pair, k * width, 0, width, height, 0, 0, width, height);
    });
    replace(refusal);
    player.element.dataset.pairs = ++pairs;
  }
  function watch(on) {
    watching?.abort();
    watching = new AbortController();
    if (on) watchPreview("/api/live/preview", show, watching.signal, (why) => replace(refusal, note(why, "warn")));
  }
  watch(true);
  return { player, refusal, watch };
}
