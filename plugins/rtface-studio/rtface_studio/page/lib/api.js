// Requests to the studio's server.
import { t, translated } from "./text.js";

/** Returns the page's key, which the server puts into the first address. It is needed because browsers send the cookie to all ports of a machine. */
function ownKey() {
  const given = new URLSearchParams(location.search).get("key");
  if (given) history.replaceState(null, "", location.pathname + location.hash);
  try {
    if (given) localStorage.setItem("key", given);
    return given ?? localStorage.getItem("key") ?? "";
  } catch { return given ?? ""; } // private windows store nothing
}

export const keyHeader = { "X-Rtface-Key": ownKey() };

/** Adds the key to an address that is requested without headers: of a picture, video, download or WebSocket. */
export const keyed = (path) => `${path}${path.includes("?") ? "&" : "?"}key=${keyHeader["X-Rtface-Key"]}`;

/** A failed request. `message` can be shown to the user; `code` and `values` are the server's. `lost` is true if the server did not respond. */
export class ApiError extends Error {
  constructor(message, { status = 0, kind = "", lost = false, code = "", values = {} } = {}) {
    super(message);
    Object.assign(this, { status, kind, lost, code, values });
  }
}

/** @param {string} method @param {string} path @param {any} body @param {{ signal?: AbortSignal }} [options] */
async function request(method, path, body, { signal } = {}) {
  /** @type {{ method: string, signal?: AbortSignal, headers: Record<string, string>, body?: any }} */
  const options = { method, signal, headers: { ...keyHeader } };
  if (body instanceof Blob) options.body = body;
  else if (body !== undefined) {
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
  /** Fetches a Blob, such as a picture. The result has the response's headers as its property `headers`. */
  async blob(path, options) {
    const response = await request("GET", path, undefined, options);
    return Object.assign(await response.blob(), { headers: response.headers });
  },
};

/**
 * Uploads a File to the server. Calls `progress` with 0…1. Resolves to the file's path on the server.
 * @param {File} file @param {(share: number) => void} [progress] @param {AbortSignal} [signal]
 */
export function upload(file, progress = () => {}, signal) {
  return new Promise((resolve, reject) => {
    const transfer = new XMLHttpRequest();
    transfer.open("PUT", `/api/files/upload?name=${encodeURIComponent(file.name)}`);
    for (const [name, value] of Object.entries(keyHeader)) transfer.setRequestHeader(name, value);
    transfer.upload.onprogress = (event) => progress(event.loaded / (event.total || 1));
    transfer.onerror = () => reject(new ApiError(t("app.upload_lost"), { lost: true }));
    transfer.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    transfer.onload = () => {
      /** @type {any} */
      let value = {};
      try { value = JSON.parse(transfer.responseText); } catch { /* a busy server responds in plain text */ }
      if (transfer.status < 300) resolve(value.path);
      else reject(failure(value, transfer));
    };
    signal?.addEventListener("abort", () => transfer.abort());
    transfer.send(file);
  });
}
