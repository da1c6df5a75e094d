// Reads the preview of a live run: JPEGs one after the other, each with before on the left and after on the right.

import { keyHeader } from "./api.js";
import { translated } from "./text.js";

const HEAD = /Content-Length: (\d+)\r\n\r\n/;

function joined(a, b) {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

/**
 * Calls `shown(bitmap)` with the newest pair until `signal` ends it; pictures that came meanwhile are left out. `refused(why)` gets what the server says where it
 * sends none.
 */
export async function watchPreview(path, shown, signal, refused) {
  while (!signal.aborted) {
    try {
      await readPairs(path, shown, signal, refused);
    } catch { /* the run begins or has ended, or the page is hidden: tried again */ }
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
}

async function readPairs(path, shown, signal, refused) {
  if (document.hidden) return;
  const leaving = new AbortController();
  const leave = () => { if (signal.aborted || document.hidden) leaving.abort(); };
  document.addEventListener("visibilitychange", leave); // a page that nobody sees costs the run nothing
  signal.addEventListener("abort", leave);
  try {
    const response = await fetch(path, { signal: leaving.signal, headers: keyHeader });
    if (response.status === 400) refused(translated(await response.json())); // others: the run begins or has ended
    if (!response.ok || !response.body) return;
    const reader = response.body.getReader();
    let held = new Uint8Array(0);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      held = joined(held, value);
      let newest = null;
      for (;;) {
        const head = HEAD.exec(String.fromCharCode(...held.subarray(0, 200)));
        if (!head) break;
        const start = head.index + head[0].length, end = start + Number(head[1]);
        if (held.length < end) break;
        newest = held.slice(start, end);
        held = held.slice(end + 2);
      }
      if (!newest) continue;
      const pair = await createImageBitmap(new Blob([newest], { type: "image/jpeg" }));
      if (!signal.aborted) shown(pair);
      pair.close();
    }
  } finally {
    leaving.abort(); // of a picture that cannot be read, too
    document.removeEventListener("visibilitychange", leave);
    signal.removeEventListener("abort", leave);
  }
}
