// The damage of a photograph: the proposed mask as a red layer, brush and eraser, the filled result, and the photographs of the album.
import { api, keyed } from "../../lib/api.js";
import { h, replace } from "../../lib/dom.js";
import { latest, on } from "../../lib/events.js";
import { shortcuts } from "../../lib/keys.js";
import { painter } from "../../lib/painter.js";
import { number, t, translated } from "../../lib/text.js";
import { badge, button, note, showError, slider, toast } from "../../lib/ui.js";
import { redo, undo } from "../../lib/undo.js";
import { wipe, zoomControls } from "../../lib/wipe.js";

const STEP = 1.25, MOST_ZOOM = 4, WHEEL = 400; // step of brush and zoom; largest zoom; movement of the wheel that doubles the zoom
const ERASER_END = 5, SEND_MS = 1000; // button that stands for the eraser end of a pen; pause after which a changed mask is sent
let sending = Promise.resolve(); // ends when the last photograph's mask has been sent to the server

export async function mountDamage(root, id) {
  await sending;
  const base = `/api/films/${id}`, film = await api.get(base), ending = new AbortController(), { signal } = ending;
  const photo = h("img", { alt: film.name, draggable: "false" }), result = h("canvas", { role: "img", "aria-label": t("app.wipe_after") });
  const mask = h("canvas", { class: "damage-mask", role: "img", "aria-label": t("films.damage_mask") }), ring = h("div", { class: "damage-ring" });
  const player = wipe(photo, result), view = player.element, surface = photo.parentElement, zoom = zoomControls(player);
  photo.after(mask, ring); player.only("before");
  Object.assign(view, { tabIndex: -1, style: `--aspect: ${film.width} / ${film.height}` });
  let tool = "brush", masking = false, unsent = 0, fits = 0, pans = false, drag = null, filling = null, url = "", neighbours = [];
  const pictures = {}, info = h("p", { class: "quiet-text number", role: "status" }, t("films.damage_loading"));
  const say = (name, values = {}) => { info.textContent = t(`films.damage_${name}`, values); };
  const paint = painter(mask, () => {
    filling?.abort();
    clearTimeout(unsent); unsent = setTimeout(() => send().catch(showError), SEND_MS);
    show(tool); say("changed");
  });
  const largest = Math.max(50, Math.round(film.width / 10)), tools = Object.fromEntries(["brush", "eraser"].map((name) => [name, button(t(`films.damage_${name}`), () => show(name), { kind: "small" })]));
  let size = Math.max(4, Math.round(film.width / 100)); // of brush and eraser, in pixels of the photograph
  const sizes = slider(t("films.damage_size"), size, (value) => { size = value; }, { min: 1, max: largest, step: 1, format: (value) => `${value} px` });
  const resize = (factor) => { size = Math.min(largest, Math.max(1, factor > 1 ? Math.ceil(size * factor) : Math.floor(size * factor))); sizes.show(size); };

  /** Shows the mask with a tool, or with "result" the filled photograph. */
  function show(name) {
    masking = name !== "result"; if (masking) tool = name;
    for (const [key, element] of Object.entries(tools)) element.setAttribute("aria-pressed", String(key === name));
    view.classList.toggle("masking", masking); player.only(masking ? "before" : null);
  }

  const place = ({ clientX, clientY, pressure, pointerType }) => {
    const box = surface.getBoundingClientRect(), scale = mask.width / box.width;
    return { x: (clientX - box.left) * scale, y: (clientY - box.top) * scale, size: pointerType === "pen" ? Math.max(1, 2 * pressure * size) : size };
  };
  surface.addEventListener("pointerdown", (event) => {
    const moves = event.button === 1 || (pans && event.button === 0);
    if (drag || (!moves && (!masking || ![0, ERASER_END].includes(event.button)))) return;
    event.preventDefault(); event.stopPropagation(); // otherwise the line of the wipe would move
    view.focus({ preventScroll: true }); view.setPointerCapture(event.pointerId);
    const [left, top] = [view.scrollLeft + event.clientX, view.scrollTop + event.clientY];
    if (!moves) { filling?.abort(); paint.begin(place(event), tool === "eraser" || event.button === ERASER_END); }
    drag = moves ? (next) => view.scrollTo(left - next.clientX, top - next.clientY) : (next) => (next.getCoalescedEvents?.() ?? [next]).forEach((one) => paint.move(place(one)));
  }, { capture: true });
  view.addEventListener("pointermove", (event) => {
    const { x, y, size } = place(event);
    Object.assign(ring.style, { left: `${100 * x / mask.width}%`, top: `${100 * y / mask.height}%`, width: `${100 * size / mask.width}%` });
    drag?.(event);
  });
  for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, () => { drag = null; paint.end(); });
  view.addEventListener("wheel", (event) => { event.preventDefault(); zoomTo(2 ** (-event.deltaY / WHEEL), event); }, { passive: false });
  addEventListener("keyup", (event) => { if (event.key === " ") pans = false; }, { signal });

  function zoomTo(step, point = null) {
    if (!player.factor) fits = player.pixels / mask.width;
    const factor = Math.min(MOST_ZOOM, (player.factor || fits) * step);
    player.zoom(factor > fits ? factor : 0, point); zoom.show();
  }

  /** Sends the mask, after the last one. */
  function send(query = "") {
    clearTimeout(unsent); unsent = 0;
    // toBlob may wait a second until the browser is idle.
    const sent = sending.then(() => api.put(`${base}/mask${query}`, new Blob([Uint8Array.from(atob(mask.toDataURL().split(",")[1]), (character) => character.charCodeAt(0))])));
    sending = sent.catch(() => {}); // the caller reports the error
    return sent;
  }

  const busy = (key) => player.busy(t(latest("queue")?.waits ? "queue.waits" : key));

  /** Fills the visible part of the photograph, then the rest. */
  async function fill() {
    filling?.abort();
    const mine = filling = new AbortController(), started = performance.now();
    busy("films.damage_filling");
    try {
      await (unsent ? send() : sending);
      const all = surface.getBoundingClientRect(), seen = view.getBoundingClientRect(), whole = [0, 0, mask.width, mask.height], pen = result.getContext("2d");
      const visible = [seen.left - all.left, seen.top - all.top, seen.right - all.left, seen.bottom - all.top].map((value, k) => Math.round(Math.min(whole[2 + k % 2], Math.max(0, value * mask.width / all.width))));
      for (const box of String(visible) === String(whole) ? [whole] : [visible, whole]) {
        const picture = await createImageBitmap(await api.blob(`${base}/filled?${new URLSearchParams({ left: box[0], top: box[1], right: box[2], bottom: box[3] })}`, { signal: mine.signal }));
        if (masking) { [result.width, result.height] = [mask.width, mask.height]; show("result"); } if (box === visible) pen.drawImage(photo, 0, 0); // until the rest follows
        pen.drawImage(picture, box[0], box[1]);
        say(box === whole ? "filled" : "filled_part", { seconds: number((performance.now() - started) / 1000, 1) });
      }
    } finally { if (mine === filling) player.busy(""); }
  }

  /** Shows the newest mask. With `again`, a new proposal replaces it. */
  async function load(again = false) {
    busy("films.damage_finding");
    const blob = await api.blob(`${base}/mask${again ? "?again=1" : ""}`, { signal }).finally(() => { player.busy(""); show(tool); keepButton.disabled = fillButton.disabled = false; }); // a mask can be painted even if none can be proposed
    paint.set(await createImageBitmap(blob));
    say(blob.headers.get("x-state") === "kept" ? "kept" : "proposed");
    await api.post(`${base}/mask`); view.dataset.ready = "";
    return list();
  }

  async function open() {
    photo.src = url = URL.createObjectURL(await api.blob(`${base}/whole`, { signal }));
    await photo.decode();
    [mask.width, mask.height] = [photo.naturalWidth, photo.naturalHeight];
    view.classList.remove("empty");
    return load();
  }

  const fillButton = button(t("films.damage_fill"), fill, { kind: "primary" });
  const keepButton = button(t("films.damage_keep"), async () => { await send("?keep=1"); say("kept"); return list(); });
  keepButton.disabled = fillButton.disabled = true; // until the mask is shown
  const go = (which) => { if (neighbours[which]) location.hash = `#/films/${neighbours[which].id}/damage`; };
  const album = h("section", { class: "card stack", "aria-label": t("films.damage_album"), hidden: true });
  // Each picture of the album is loaded once.
  const card = ({ id, name, state }) => h("li", { class: "card stack film-card" }, pictures[id] ??= h("img", { alt: "", loading: "lazy", src: keyed(`/api/films/${id}/picture`) }),
    h("div", { class: "head" }, h("a", { href: `#/films/${id}/damage`, "aria-current": id === film.id ? "page" : null }, name), badge(t(`films.damage_is_${state}`), { kept: "good", looked: "accent" }[state])));
  const act = async (action) => { await (unsent ? send() : sending); await api.post(`${base}/album`, { action }); return list(); };
  const accept = async () => { await act("accept"); say("kept"); toast(t("films.damage_accepted")); };
  async function list() {
    const { photos, task } = await api.get(`${base}/album`, { signal }), running = ["waiting", "running"].includes(task.state);
    const here = photos.findIndex((one) => one.id === film.id), of = (state) => photos.filter((one) => one.state === state).length;
    neighbours = [photos[here - 1], photos[here + 1]]; album.hidden = photos.length < 2;
    replace(album, h("div", { class: "head" }, h("h2", {}, t("films.damage_place", { place: here + 1, count: photos.length })), h("div", { class: "row" },
      small("damage_before", () => go(0), !neighbours[0]), small("damage_after", () => go(1), !neighbours[1]), running ? small("damage_stop", () => act("stop")) : small("damage_propose_all", () => act("propose"), !of("none")),
      button(t("films.damage_accept", { count: of("looked") }), accept, { kind: of("looked") ? "small primary" : "small", disabled: !of("looked") }))),
    running ? h("progress", { max: 1, value: task.share ?? 0, "aria-label": t("queue.progress") }) : null,
    [task.result?.failed, task.error].flat().filter(Boolean).map((message) => note(translated(message), "bad")), h("ul", { class: "grid" }, photos.map(card)));
  }

  const small = (name, action, disabled = false) => button(t(`films.${name}`), action, { kind: "small", disabled }), clear = () => paint.set(null);
  replace(root, h("div", { class: "head" }, h("h1", {}, film.name), h("div", { class: "row" }, h("a", { class: "button", href: `#/films/${id}` }, t("films.damage_back")), keepButton, fillButton)),
    view, info, h("div", { class: "row damage-tools" }, tools.brush, tools.eraser, sizes, small("damage_undo", undo), small("damage_redo", redo), zoom.button,
      small("damage_none", clear), small("damage_again", () => load(true))), album);
  const smaller = ["films.damage_smaller", () => resize(1 / STEP)], larger = ["films.damage_larger", () => resize(STEP)], endAlbum = on("damage", () => list().catch(() => {})); // the next message brings another list
  const endKeys = shortcuts({
    b: ["films.damage_brush", () => show("brush")], e: ["films.damage_eraser", () => show("eraser")], "[": smaller, ",": smaller, "]": larger, ".": larger,
    "+": ["films.damage_nearer", () => zoomTo(STEP)], "-": ["films.damage_farther", () => zoomTo(1 / STEP)], " ": ["films.damage_pan", () => { pans = true; }], ...zoom.keys,
    f: ["films.damage_fill", () => fillButton.click()], k: ["films.damage_keep", () => keepButton.click()], n: ["films.damage_none", clear],
    ArrowLeft: ["films.damage_before", () => go(0)], ArrowRight: ["films.damage_after", () => go(1)],
  });
  open().catch((error) => { if (error.name !== "AbortError") showError(error); });
  return () => {
    if (unsent) send().catch(showError);
    ending.abort(); filling?.abort(); endKeys(); endAlbum(); URL.revokeObjectURL(url);
  };
}
