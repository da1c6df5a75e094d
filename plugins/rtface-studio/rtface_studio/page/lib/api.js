// Requests to the studio's server.
import { t, translated } from "./text.js";

/** The second secret of the page: browsers send the cookie to other ports of a machine, too. The server gives it once, in the address. */
function ownKey() {
  const given = new URLSearchParams(location.search).get("key");
  if (given) history.replaceState(null, "", location.pathname + location.hash);
  try {
    if (given) localStorage.setItem("key", given);
    return given ?? localStorage.getItem("key") ?? "";
  } catch { return given ?? ""; } // private windows keep nothing
}

export const keyHeader = { "X-Rtface-Key": ownKey() };

/** The address of something that no header goes with: a picture, a video, a download, a WebSocket. */
export const keyed = (path) => `${path}${path.includes("?") ? "&" : "?"}key=${keyHeader["X-Rtface-Key"]}`;

/** A request that failed; `message` is fit to be shown, `code` and `values` are those of the server. `lost` is true where the server did not answer at all. */
export class ApiError extends Error {
  constructor(message, { status = 0, kind = "", lost = false, code = "", values = {} } = {}) {
    super(message);
    Object.assign(this, { status, kind, lost, code, values });
  }
}

/** @param {string} method @param {string} path @param {any} body @param {{ signal?: AbortSignal }} [options] */
async function request(method, path, body, { signal } = {}) {
  /** @type {{ method: string, signal?: AbortSignal, headers: Record<string, string>, body?: string }} */
  const options = { method, signal, headers: { ...keyHeader } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(t("app.lost_now"), { lost: true });
  }
  return response.ok ? response : fail(response);
}

/** @param {{ error?: string, code?: string, [name: string]: any }} value @param {{ status: number, statusText: string }} response */
const failure = ({ error, ...value }, { status, statusText }) => new ApiError(error ? translated({ ...value, error }) : `${status} ${statusText}`, { status, ...value });

async function fail(response) {
  throw failure(await response.json().catch(() => ({})), response);
}

const json = async (response) => (await response).json();

export const api = {
  get: (path, options) => json(request("GET", path, undefined, options)),
  post: (path, body = {}, options) => json(request("POST", path, body, options)),
  put: (path, body = {}, options) => json(request("PUT", path, body, options)),
  delete: (path, options) => json(request("DELETE", path, undefined, options)),
  /** A Blob, such as a picture; `headers` of the response come along as a property of the result. */
  async blob(path, options) {
    const response = await request("GET", path, undefined, options);
    return Object.assign(await response.blob(), { headers: response.headers });
  },
};

/**
 * Sends a File to the server's folder of uploads; `progress` gets 0…1. Gives its path there.
 * @param {File} file @param {(share: number) => void} [progress] @param {AbortSignal} [signal]
 */
export function upload(file, progress = () => {}, signal) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("PUT", `/api/files/upload?name=${encodeURIComponent(file.name)}`);
    for (const [name, value] of Object.entries(keyHeader)) sending.setRequestHeader(name, value);
    sending.upload.onprogress = (event) => progress(event.loaded / (event.total || 1));
    sending.onerror = () => reject(new ApiError(t("app.upload_lost"), { lost: true }));
    sending.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    sending.onload = () => {
      /** @type {any} */
      let value = {};
      try { value = JSON.parse(sending.responseText); } catch { /* a server that is too busy says so in plain text */ }
      if (sending.status < 300) resolve(value.path);
      else reject(failure(value, sending));
    };
    signal?.addEventListener("abort", () => sending.abort());
    sending.send(file);
  });
}
