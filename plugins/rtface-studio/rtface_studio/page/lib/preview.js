// Reads the preview of a live run: a sequence of JPEGs with before on the left and after on the right.

import { keyHeader } from "./api.js";
import { translated } from "./text.js";

const HEAD = /Content-Length: (\d+)\r\n\r\n/;

function concatenate(a, b) {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

/**
 * Calls `shown(bitmap)` with the newest pair, skipping older ones, until `signal` is aborted. Calls `refused(why)` with the server's message if the server rejects
 * the request.
 */
export async function watchPreview(path, shown, signal, refused) {
  while (!signal.aborted) {
    try {
      await readPairs(path, shown, signal, refused);
    } catch { /* the run is starting or has ended, or the page is hidden: tries again */ }
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
}

async function readPairs(path, shown, signal, refused) {
  if (document.hidden) return;
  const leaving = new AbortController();
  const leave = () => { if (signal.aborted || document.hidden) leaving.abort(); };
  document.addEventListener("visibilitychange", leave); // hidden pages load no preview, so that they cost the run nothing
  signal.addEventListener("abort", leave);
  try {
    const response = await fetch(path, { signal: leaving.signal, headers: keyHeader });
    if (response.status === 400) refused(translated(await response.json())); // other codes: the run is starting or has ended
    if (!response.ok || !response.body) return;
    const reader = response.body.getReader();
    let buffered = new Uint8Array(0);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      buffered = concatenate(buffered, value);
      let newest = null;
      for (;;) {
        const head = HEAD.exec(String.fromCharCode(...buffered.subarray(0, 200)));
        if (!head) break;
        const start = head.index + head[0].length, end = start + Number(head[1]);
        if (buffered.length < end) break;
        newest = buffered.slice(start, end);
        buffered = buffered.slice(end + 2);
      }
      if (!newest) continue;
      const pair = await createImageBitmap(new Blob([newest], { type: "image/jpeg" }));
      if (!signal.aborted) shown(pair);
      pair.close();
    }
  } finally {
    leaving.abort(); // also after a picture that cannot be decoded
    document.removeEventListener("visibilitychange", leave);
    signal.removeEventListener("abort", leave);
  }
}
