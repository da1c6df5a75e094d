// The position in the film and, below it on the same scale, its shots and the times of each person. A click moves the player.
import { h, replace } from "../../lib/dom.js";
import { t } from "../../lib/text.js";

/**
 * A timeline of `duration` seconds; `lasts(seconds)` changes the duration for the next `show`. `seek(time)` moves the player, and `slider` is the control of its position.
 * `show(result, set)` draws a result of the analysis (null: the last one) with the settings of persons.
 * `at(time)` moves the line of the current frame. `shot(time, step)` returns the start of the next (1) or previous (-1)
 * shot; null if there is none.
 */
export function timeline(duration, seek, slider) {
  const lanes = h("div", { class: "timeline-lanes" });
  const line = h("div", { class: "timeline-line" });
  const area = h("div", { class: "timeline-area", role: "img" }, lanes, line);
  const names = h("div", { class: "timeline-names", "aria-hidden": "true" });
  const element = h("div", { class: "timeline" }, h("span"), slider, names, area);
  const share = (seconds) => `${100 * Math.min(1, Math.max(0, seconds / duration))}%`;
  let starts = [0], last = {};

  const span = (kind, from, to) => h("span", { class: ["timeline-span", kind], style: { left: share(from), width: `max(2px, ${share(to - from)})` } });
  const lane = (spans) => h("div", { class: "timeline-lane" }, spans);

  function show(given, set = {}) {
    const result = last = given ?? last;
    const shots = result.scenes ?? [];
    const tracks = result.tracks ?? {};
    const persons = Object.entries(result.persons ?? {});
    if (shots.length) starts = shots.map((shot) => shot.start_s);
    replace(names, h("span", {}, t("films.shots")), persons.map(([name]) => h("span", {}, name)));
    replace(lanes, lane(shots.map((shot) => span("shot", shot.start_s, shot.end_s))),
      persons.map(([name, person]) => lane(person.tracks.map((number) => tracks[number]).filter(Boolean)
        .map((track) => span(set[name]?.on ?? track.on ? "on" : "off", track.first_s, track.last_s)))));
    area.setAttribute("aria-label", t("films.timeline", { shots: starts.length, persons: persons.length }));
  }

  area.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const box = area.getBoundingClientRect();
    seek(duration * (event.clientX - box.left) / box.width);
  });

  show({});
  return { element, show, lasts(seconds) { duration = seconds; }, at(time) { line.style.left = share(time); },
    shot(time, step) {
      const near = 1e-3; // tolerance, because frame times may be rounded
      return (step > 0 ? starts.find((start) => start > time + near) : starts.findLast((start) => start < time - near)) ?? null;
    } };
}
