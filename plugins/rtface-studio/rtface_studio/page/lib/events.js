// Changes that the server tells of, by topic, over a WebSocket that connects again by itself.

import { keyed } from "./api.js";

const listeners = new Map();
const states = new Set();
const last = new Map();
let wait = 250;
let held = null; // messages while something is pressed that can be clicked: a view that is drawn anew would lose the click

const deliver = ({ topic, value }) => { for (const listener of listeners.get(topic) ?? []) listener(value); };
addEventListener("pointerdown", ({ target }) => { if (/** @type {Element} */ (target).closest("button, a, label, summary")) held ??= []; }, true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => setTimeout(() => { // after the click
  const messages = held ?? [];
  held = null;
  messages.forEach(deliver);
}), true);

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
    const { topic, value } = JSON.parse(message.data);
    if (value === null) last.delete(topic); else last.set(topic, value);
    if (held) held.push({ topic, value }); else deliver({ topic, value });
  };
  socket.onclose = () => {
    last.clear(); // the server sends what still holds; another start of it has other films
    for (const listener of states) listener(false);
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, 4000);
  };
}
