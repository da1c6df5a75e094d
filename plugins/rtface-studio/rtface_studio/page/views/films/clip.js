// Some seconds of a film, before and after, in a loop. A run makes them as one film with two halves.
import { api, keyed } from "../../lib/api.js";
import { h } from "../../lib/dom.js";
import { on } from "../../lib/events.js";
import { percent, t, translated } from "../../lib/text.js";
import { wipe } from "../../lib/wipe.js";

/**
 * The clips of film `id`, shown in place of `still`, the wipe of a single frame. `play(time, settings)` makes and shows a clip; `stop()` ends this.
 * Calls `told(text, playing)` with the current activity; `text` is null if there is none.
 */
export function clips(id, still, told) {
  const halves = ["before", "after"].map((name) => h("canvas", { role: "img", "aria-label": t(`app.wipe_${name}`), width: 16, height: 9 }));
  const player = wipe(...halves);
  const video = h("video", { loop: true, muted: true, playsinline: true });
  video.muted = true;
  let making = false, playing = false;

  function draw() {
    if (!playing) return;
    const width = video.videoWidth / 2, height = video.videoHeight;
    halves.forEach((canvas, k) => {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      canvas.getContext("2d").drawImage(video, k * width, 0, width, height, 0, 0, width, height);
    });
    player.element.dataset.at = video.currentTime;
    requestAnimationFrame(draw);
  }

  function show(url) {
    making = false;
    video.src = keyed(`${url}?${Date.now()}`);
    video.onloadeddata = async () => {
      player.element.style.setProperty("--aspect", `${video.videoWidth / 2} / ${video.videoHeight}`);
      player.set(still.share);
      still.element.hidden = true;
      still.element.after(player.element);
      playing = true;
      told(t("films.clip_plays"), true);
      draw();
      await video.play().catch(() => {});
    };
    video.onerror = () => { if (video.src) end(t("films.clip_unplayable")); };
  }

  function end(text = null) {
    if (playing) still.set(player.share);
    making = playing = false;
    video.pause();
    player.element.remove();
    still.element.hidden = false;
    told(text);
  }

  const tell = (share) => told(t("films.clip_making") + (share ? ` ${percent(share)}` : ""));
  const ending = on(`film/${id}/clip`, ({ state, share, result, error }) => {
    if (!making) return;
    if (state === "done") show(result.clip);
    else if (state === "failed") end(translated(error));
    else if (state === "running" || state === "waiting") tell(share);
  });
  return { get on() { return making || playing; },
    async play(time, settings) {
      making = true;
      tell(0);
      try { await api.post(`/api/films/${id}/clip`, { time, settings }); } catch (error) { end(error.message); }
    },
    stop() {
      if (making) api.post(`/api/films/${id}/clip`, { action: "stop" }).catch(() => {});
      if (making || playing) end();
    },
    end() { this.stop(); ending(); } };
}
