// Receives changes from the server by topic, over a WebSocket that reconnects by itself.

import { keyed } from "./api.js";

const listeners = new Map();
const states = new Set();
const last = new Map();
let wait = 250;
let releaseTimer;
let held = null; // messages that arrive while a button is pressed: if they redrew the view, the click would be lost

const HELD_MS = 2000; // maximum delay, because the page may not learn that the press has ended

const deliver = ({ topic, value }) => {
  if (value === null) last.delete(topic); else last.set(topic, value);
  for (const listener of listeners.get(topic) ?? []) listener(value);
};
const release = () => {
  for (const message of held ?? []) queueMicrotask(() => deliver(message)); // separately, because a listener may throw
  held = null;
  clearTimeout(releaseTimer);
};
/** @param {EventTarget | null} target */
const hold = (target) => {
  if (!(target instanceof Element && target.closest("button, a, label, summary"))) return;
  held ??= [];
  clearTimeout(releaseTimer);
  releaseTimer = setTimeout(release, HELD_MS);
};
addEventListener("pointerdown", ({ button, target }) => button === 0 && hold(target), true);
addEventListener("keydown", ({ key, repeat, target }) => key === " " && !repeat && hold(target), true);
for (const end of ["pointerup", "pointercancel", "keyup"]) addEventListener(end, () => setTimeout(release), true); // after the click event

/** Returns a topic's last value, if any. */
export const latest = (topic) => last.get(topic);

/** Calls `listener(value)` with a topic's last value, if any, and with each new one. Returns a function that ends this. */
export function on(topic, listener) {
  if (!listeners.has(topic)) listeners.set(topic, new Set());
  listeners.get(topic).add(listener);
  if (last.has(topic)) listener(last.get(topic));
  return () => listeners.get(topic).delete(listener);
}

/** Calls `listener(connected)` whenever the connection to the server is lost or restored. Returns a function that ends this. */
export function onState(listener) {
  states.add(listener);
  return () => states.delete(listener);
}

export function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${keyed("/api/events")}`);
  socket.onopen = () => {
    wait = 250;
    for (const listener of states) listener(true);
  };
  socket.onmessage = (message) => {
    const parsed = JSON.parse(message.data);
    if (held) held.push(parsed); else deliver(parsed);
  };
  socket.onclose = () => {
    held = held && [];
    last.clear(); // the server sends current values again; after its restart, earlier values may be wrong
    for (const listener of states) listener(false);
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, 4000);
  };
}
