// A small graph of several values over time, drawn on a canvas in the colours of the theme.
import { h } from "./dom.js";

/**
 * Creates a graph with a curve for each of `lines` ([name, CSS variable of its colour, dash]). `add(values)` adds a value
 * to each curve. Shows the last `count` values. `label` describes the graph for screen readers.
 */
export function graph(lines, { count = 240, label = "" } = {}) {
  const canvas = h("canvas", { class: "graph", role: "img", "aria-label": label });
  const history = [];

  function draw() {
    const width = canvas.clientWidth, height = canvas.clientHeight, scale = devicePixelRatio;
    if (!width) return;
    canvas.width = width * scale; canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    const colour = (name) => { canvas.style.color = `var(${name})`; return getComputedStyle(canvas).color; };
    pen.scale(scale, scale);
    const highest = Math.max(20, ...history.flat());
    const top = Math.ceil(highest / 20) * 20;
    pen.font = "11px system-ui";
    pen.fillStyle = colour("--quiet");
    pen.strokeStyle = colour("--line");
    for (const share of [0, 0.5, 1]) {
      const y = 6 + (height - 12) * (1 - share);
      pen.beginPath(); pen.moveTo(30, y); pen.lineTo(width, y); pen.stroke();
      pen.fillText(String(Math.round(top * share)), 2, y + 4);
    }
    lines.forEach(([, name, dash], k) => {
      pen.strokeStyle = colour(name);
      pen.setLineDash(dash);
      pen.lineWidth = 1.5;
      pen.beginPath();
      history.forEach((values, n) => {
        const x = 30 + (width - 30) * (count - history.length + n) / (count - 1);
        pen.lineTo(x, 6 + (height - 12) * (1 - Math.min(values[k], top) / top));
      });
      pen.stroke();
    });
    pen.setLineDash([]);
  }
  new ResizeObserver(draw).observe(canvas);
  return { element: canvas, add(values) { history.push(values); if (history.length > count) history.shift(); draw(); } };
}
