// Paints a mask on a canvas with a brush and an eraser, with undo.
import { change } from "./undo.js";

/**
 * Paints on `canvas`, in red. `set(image)` replaces everything by an image, or by nothing with null. `begin(dot, erases)`, `move(dot)` and `end()` paint a stroke
 * through dots { x, y, size } in pixels of the canvas. Calls `changed()` after each change. Undo paints the earlier strokes again, because copies of large
 * photographs would need too much memory.
 */
export function painter(canvas, changed) {
  const strokes = [];
  let current = null;
  /** Paints a stroke, or its part from dot number `first` on. */
  function paint({ image = null, dots = null, erases = false }, first = 1) {
    const pen = Object.assign(canvas.getContext("2d"), { globalCompositeOperation: erases ? "destination-out" : "source-over", strokeStyle: "#f00", lineCap: "round" });
    if (!dots) pen.clearRect(0, 0, canvas.width, canvas.height);
    if (image) pen.drawImage(image, 0, 0);
    for (let k = first; k < dots?.length; k++) {
      pen.lineWidth = dots[k].size;
      pen.beginPath(); pen.moveTo(dots[k - 1].x, dots[k - 1].y); pen.lineTo(dots[k].x, dots[k].y); pen.stroke();
    }
  }
  const add = (stroke) => change(() => { strokes.push(stroke); paint(stroke); changed(); },
    () => { strokes.pop(); paint({}); strokes.forEach((one) => paint(one)); changed(); });
  const move = (dot) => { current.dots.push(dot); paint(current, current.dots.length - 1); };
  return {
    set(image) { if (strokes.length) add({ image }); else { strokes.push({ image }); paint({ image }); } },
    begin(dot, erases) { current = { dots: [dot], erases }; move({ ...dot, x: dot.x + 0.01 }); }, // a line without length would be invisible
    move,
    end() { if (current) add(current); current = null; },
  };
}
