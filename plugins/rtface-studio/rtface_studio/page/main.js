// The page's frame: navigation, theme, language, keyboard, and the view in the address.
import { h, replace } from "./lib/dom.js";
import { api, ApiError } from "./lib/api.js";
import { connect, on, onState } from "./lib/events.js";
import { listenForKeys, shortcuts, showShortcuts } from "./lib/keys.js";
import { LANGUAGES, language, percent, setLanguage, setTexts, t } from "./lib/text.js";
import { note, showError, toast } from "./lib/ui.js";
import { forget, redo, undo } from "./lib/undo.js";

const VIEWS = ["films", "call", "live", "queue", "engines", "health", "settings"];
let leave = () => {};
let shown = 0; // counts views, so that a view that was left while it loaded can be ended
let main, lost, nav, about = {};
let queued = []; // items of the queue
const count = h("span", { class: "badge", hidden: true }); // number of unfinished items, in the navigation
const running = h("span", { class: "badge good", hidden: true }); // shown while a live run uses the camera
const BADGES = { queue: count, call: running };

function theme() { try { return localStorage.getItem("theme") ?? "auto"; } catch { return "auto"; } }

function setTheme(name) {
  try { localStorage.setItem("theme", name); } catch { /* private windows store nothing */ }
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

function tools() {
  const choice = (label, pairs, value, changed) => {
    const control = h("select", { "aria-label": label, onchange: () => changed(control.value) },
      pairs.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
    return control;
  };
  return h("div", { class: "stack tools" },
    choice(t("app.theme"), ["auto", "light", "dark"].map((name) => [name, t(`app.theme_${name}`)]), theme(), setTheme),
    choice(t("app.language"), Object.entries(LANGUAGES), language, (name) => { setLanguage(name); draw(); }),
    h("button", { type: "button", class: "button quiet small", onclick: showShortcuts }, t("app.keys")),
    about.login ? h("button", { type: "button", class: "button quiet small", onclick: logOut }, t("app.log_out")) : null);
}

async function logOut() {
  await api.post("/api/logout");
  location.assign("/login");
}

function drawNavigation(current) {
  replace(nav, h("span", { class: "brand" }, h("img", { src: "/page/icon.svg", alt: "" }), "rtface"),
    VIEWS.map((name) => h("a", { href: `#/${name}`, "aria-current": name === current ? "page" : null }, t(`app.nav_${name}`), BADGES[name])),
    h("span", { class: "grow" }), tools());
}

/** Shows the queue's state in the navigation and the title, and reports items that have ended. */
function drawQueue({ items }) {
  for (const { id, state, output } of items) {
    if (!["done", "failed"].includes(state) || location.hash === `#/queue/${id}` || !["running", "waiting"].includes(queued.find((one) => one.id === id)?.state)) continue;
    toast(t(`app.item_${state}`, { name: output.split(/[\\/]/).pop() }), { kind: state === "failed" ? "bad" : "", seconds: 60, action: h("a", { href: `#/queue/${id}` }, t("films.to_queue")) });
  }
  queued = items;
  const open = items.filter(({ state }) => ["waiting", "running", "paused", "interrupted"].includes(state)).length;
  count.hidden = !open;
  count.textContent = open;
  updateTitle();
}

function updateTitle() {
  const share = queued.find(({ state }) => state === "running")?.share ?? null, view = location.hash.replace(/^#\//, "").split("/")[0];
  document.title = [share !== null && percent(share), t(`app.nav_${VIEWS.includes(view) ? view : "films"}`), "rtface"].filter(Boolean).join(" · ");
}

/** Shows the view in the address: #/films, or #/films/3 with "3" as its argument. */
async function show() {
  const [name, ...rest] = location.hash.replace(/^#\//, "").split("/");
  const view = VIEWS.includes(name) ? name : "films";
  leave();
  leave = () => {};
  forget();
  for (const open of [...document.getElementsByTagName("dialog")]) open.close(); // dialogs belong to the view that was left
  drawNavigation(view);
  document.body.classList.toggle("dock", view === "live" && rest[0] === "dock");
  updateTitle();
  const mine = ++shown;
  const root = h("div", { class: "view" });
  replace(main, root);
  try {
    const { mount } = await import(`./views/${view}.js`);
    const end = (await mount(root, { argument: rest.map(decodeURIComponent) })) ?? (() => {});
    if (view === "settings") root.querySelector(".head").after(h("section", { class: "card narrow-tools" }, tools())); // for narrow windows, whose navigation has no room for them
    if (mine === shown) leave = end;
    else end();
  } catch (error) {
    if (!lost.hidden || mine !== shown) return; // the server is lost, as shown above, or another view was opened
    if (rest.length) replace(root, note([h("p", {}, error.message), h("a", { class: "button", href: `#/${view}` }, t(`app.nav_${view}`))], "bad"));
    else showError(error);
  }
}

function draw() {
  nav = h("nav", { class: "nav", "aria-label": t("app.navigation") });
  main = h("main", { class: "main", id: "main", tabindex: -1 });
  lost = h("div", { class: "lost", role: "alert", hidden: true }, t("app.lost"));
  const app = document.getElementById("app");
  replace(app, lost, h("div", { class: "frame" }, nav, main));
  document.querySelector(".skip").textContent = t("app.skip");
  show();
}

/** The server responds again. Redraws the view if the server was restarted, because a new start does not know this page. */
async function again() {
  toast(t("app.again"));
  const now = await api.get("/api/about");
  if (now.start !== about.start) show();
  about = now;
}

// Reports errors from controls and keys whose actions nobody awaits.
addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof ApiError) showError(event.reason);
  if (event.reason instanceof ApiError || event.reason?.name === "AbortError") event.preventDefault();
});

async function start() {
  setTheme(theme());
  const [told, texts] = await Promise.all([api.get("/api/about"), api.get("/api/text")]);
  about = told;
  setTexts(texts);
  draw();
  let was = null;
  onState((connected) => {
    lost.hidden = connected;
    if (connected && was === false) again().catch(showError);
    // The server was restarted, or the session has ended. The reloaded page tells the user how to continue.
    if (!connected) api.get("/api/about").catch((error) => { if (error.status === 403) location.reload(); });
    was = connected;
  });
  on("queue", drawQueue);
  on("live", ({ state }) => { running.hidden = !["starting", "running"].includes(state); running.textContent = t("app.on"); });
  api.get("/api/queue").then(drawQueue, () => {});
  connect();
  listenForKeys();
  shortcuts({
    "?": ["app.keys", showShortcuts],
    "Ctrl+z": ["app.undo", () => undo()],
    "Ctrl+Shift+z": ["app.redo", () => redo()],
    ...Object.fromEntries(VIEWS.map((name, k) => [String(k + 1), [`app.nav_${name}`, () => { location.hash = `#/${name}`; }]])),
  });
  addEventListener("hashchange", show);
}

start().catch((error) => { document.getElementById("app").textContent = error.message; });
