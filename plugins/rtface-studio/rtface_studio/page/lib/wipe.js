// Two pictures of one frame with a movable line between them: before on the left, after on the right.
import { h } from "./dom.js";
import { t } from "./text.js";
import { button } from "./ui.js";

const ZOOMS = [0, 1, 2, 4];
const GRIP_PX = 24, STILL_PX = 4; // a drag that starts this near the line moves the line; a shorter drag is a click
const PAN = 0.2, PART = 0.9; // shares of the visible area: distance moved by a key, and maximum size of a part that `look` enlarges

const picture = (label) => h("img", { alt: t(label), draggable: "false" });

/**
 * A wipe of two images, or of two other elements of one size. `show(before, after)` loads two image URLs and shows both at the same time. `set(share)` moves the line.
 * `only(name)` shows only "before" or "after"; `only(null)` shows both. `zoom(factor)`: 0 fits the view, 1 shows pixels at their size. Dragging, or `pan(x, y)` in steps,
 * moves enlarged pictures. A click, or a drag of the line itself, moves the line.
 * `look(box)` enlarges a part of the picture and moves the line to its middle.
 * @param {any} [before] @param {any} [after]
 */
export function wipe(before = picture("app.wipe_before"), after = picture("app.wipe_after")) {
  const line = h("div", { class: "wipe-line", role: "slider", tabindex: 0, "aria-label": t("app.wipe"), "aria-valuemin": 0, "aria-valuemax": 100 });
  const labels = [h("span", { class: "wipe-label left" }, t("app.wipe_before")), h("span", { class: "wipe-label right" }, t("app.wipe_after"))];
  const doing = h("span", { class: "wipe-label doing", hidden: true });
  const pictures = h("div", { class: "wipe-pictures" }, after, before, line, labels, doing);
  const element = h("div", { class: "wipe" }, pictures);
  let share = 0.5, factor = 0, alone = null, current = 0;

  function draw() {
    const shown = alone === "before" ? 1 : alone === "after" ? 0 : share;
    before.style.clipPath = `inset(0 ${(1 - shown) * 100}% 0 0)`;
    line.style.left = `${shown * 100}%`;
    line.hidden = alone !== null;
    labels[0].hidden = shown < 0.12; labels[1].hidden = shown > 0.88;
    line.setAttribute("aria-valuenow", Math.round(share * 100));
    line.setAttribute("aria-valuetext", t("app.wipe_value", { share: Math.round(share * 100) }));
    const width = factor && before.naturalWidth ? `${before.naturalWidth * factor / devicePixelRatio}px` : "";
    pictures.style.width = width;
    element.classList.toggle("zoomed", factor > 0);
  }

  const set = (value) => { share = Math.min(1, Math.max(0, value)); draw(); };
  const move = (event) => {
    const box = pictures.getBoundingClientRect();
    set((event.clientX - box.left) / box.width);
  };
  let grip = null; // start of a drag that moves enlarged pictures
  pictures.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pictures.setPointerCapture(event.pointerId);
    line.focus({ preventScroll: true });
    const { left, width } = line.getBoundingClientRect();
    grip = factor && Math.abs(event.clientX - left - width / 2) > GRIP_PX ?
      { x: event.clientX, y: event.clientY, left: element.scrollLeft, top: element.scrollTop, moved: false } : null;
    if (!grip) move(event);
  });
  pictures.addEventListener("pointermove", (event) => {
    if (!pictures.hasPointerCapture(event.pointerId)) return;
    if (!grip) { move(event); return; }
    const [x, y] = [grip.x - event.clientX, grip.y - event.clientY];
    grip.moved ||= Math.hypot(x, y) > STILL_PX;
    if (grip.moved) element.scrollTo(grip.left + x, grip.top + y);
  });
  pictures.addEventListener("pointerup", (event) => { if (grip && !grip.moved) move(event); });
  line.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (step === undefined || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    set(share + step);
  });

  async function show(beforeUrl, afterUrl) {
    const mine = ++current;
    const load = (url) => { const image = new Image(); image.src = url; return image.decode(); };
    await Promise.all([load(beforeUrl), load(afterUrl)]);
    if (mine !== current) return;
    before.src = beforeUrl; after.src = afterUrl;
    element.classList.remove("empty");
    await Promise.all([before.decode(), after.decode()]).catch(() => {});
    draw();
  }
  if (before instanceof HTMLImageElement) element.classList.add("empty"); // browsers draw images without a source as broken
  draw();
  return { element, show, set, label(text) { labels[1].textContent = text; }, busy(text) { doing.textContent = text; doing.hidden = !text; }, get share() { return share; }, get pixels() { return pictures.clientWidth * devicePixelRatio; }, only(name) { alone = name; draw(); },
    pan(x, y) { element.scrollBy(x * PAN * element.clientWidth, y * PAN * element.clientHeight); },
    zoom(value, point = null) { // keeps the place at `point`, by default the middle of the visible area
      const seen = element.getBoundingClientRect(), { clientX, clientY } = point ?? { clientX: seen.left + seen.width / 2, clientY: seen.top + seen.height / 2 };
      const was = pictures.getBoundingClientRect(), [x, y] = [(clientX - was.left) / was.width, (clientY - was.top) / was.height];
      factor = value; draw();
      const now = pictures.getBoundingClientRect();
      element.scrollBy(now.left + x * now.width - clientX, now.top + y * now.height - clientY);
    }, get factor() { return factor; },
    look([left, top, right, bottom]) { // the part is given in pixels; enlarges it as far as all of it is visible
      const pixels = element.clientHeight * devicePixelRatio, fits = pictures.clientWidth * devicePixelRatio / before.naturalWidth;
      const factor = ZOOMS.findLast((zoom) => zoom * (bottom - top) < PART * pixels), [x, y] = [(left + right) / 2, (top + bottom) / 2];
      this.zoom(factor > fits ? factor : 0);
      element.scrollTo(x * factor / devicePixelRatio - element.clientWidth / 2, y * factor / devicePixelRatio - element.clientHeight / 2);
      set(x / before.naturalWidth);
    } };
}

/**
 * Creates the button and the keys that zoom a wipe, and the keys that move enlarged pictures. Calls `changed()` after each step.
 * With the `width` of the film, omits steps that would make the pictures smaller than in the fitting view.
 */
export function zoomControls(player, changed = () => {}, width = 0) {
  let steps = ZOOMS;
  const next = () => {
    if (!player.factor && width) steps = ZOOMS.filter((zoom) => !zoom || zoom > 1.05 * player.pixels / width);
    player.zoom(steps[(steps.indexOf(player.factor) + 1) % steps.length]);
    show();
    changed();
  };
  const show = () => { element.textContent = player.factor ? `${Math.round(100 * player.factor)} %` : t("app.zoom_fit"); };
  const element = button(t("app.zoom_fit"), next, { kind: "small" });
  const pan = (x, y) => ["app.key_pan", () => player.pan(x, y)];
  return { button: element, show, keys: { z: ["app.key_zoom", next], "Shift+ArrowLeft": pan(-1, 0), "Shift+ArrowRight": pan(1, 0), "Shift+ArrowUp": pan(0, -1), "Shift+ArrowDown": pan(0, 1) } };
}
