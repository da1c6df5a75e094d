// Changes that the server tells of, by topic, over a WebSocket that connects again by itself.

import { keyed } from "./api.js";

const listeners = new Map();
const states = new Set();
const last = new Map();
let wait = 250;
let ends;
let held = null; // messages while something is pressed that can be clicked: a view that is drawn anew would lose the click

const HELD_MS = 2000; // at the most, as a press may end where this page is not told

const deliver = ({ topic, value }) => {
  if (value === null) last.delete(topic); else last.set(topic, value);
  for (const listener of listeners.get(topic) ?? []) listener(value);
};
const release = () => {
  for (const message of held ?? []) queueMicrotask(() => deliver(message)); // each by itself, as a listener may throw
  held = null;
  clearTimeout(ends);
};
/** @param {EventTarget | null} target */
const hold = (target) => {
  if (!(target instanceof Element && target.closest("button, a, label, summary"))) return;
  held ??= [];
  clearTimeout(ends);
  ends = setTimeout(release, HELD_MS);
};
addEventListener("pointerdown", ({ button, target }) => button === 0 && hold(target), true);
addEventListener("keydown", ({ key, repeat, target }) => key === " " && !repeat && hold(target), true);
for (const end of ["pointerup", "pointercancel", "keyup"]) addEventListener(end, () => setTimeout(release), true); // after the click

/** Calls `listener(value)` for each message of a topic, and at once with its last one; returns a function that ends this. */
export function on(topic, listener) {
  if (!listeners.has(topic)) listeners.set(topic, new Set());
  listeners.get(topic).add(listener);
  if (last.has(topic)) listener(last.get(topic));
  return () => listeners.get(topic).delete(listener);
}

/** Calls `listener(connected)` whenever the connection to the server is lost or there again. */
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
    const told = JSON.parse(message.data);
    if (held) held.push(told); else deliver(told);
  };
  socket.onclose = () => {
    held = held && [];
    last.clear(); // the server sends what still holds; another start of it has other films
    for (const listener of states) listener(false);
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, 4000);
  };
}
