// Learnt persons: lists, selects, learns (with guidance at the camera) and removes them.
import { api } from "../../lib/api.js";
import { chooseFilm, chooseFolder } from "../../lib/chooser.js";
import { h, replace } from "../../lib/dom.js";
import { on } from "../../lib/events.js";
import { clock, t, translated } from "../../lib/text.js";
import { button, check, confirm, dialog, field, note, select } from "../../lib/ui.js";

const POSES = ["ahead", "left", "right", "up", "mouth", "blink"]; // same names as in rtface_learn.camera
const WORKS = ["waiting", "running"];

/** The list. Changes `person` of `settings`, in which "NAME" without a photo means a learnt person. Calls `changed(persons)` with the server's new state. */
export function learntPersons(found, settings, devices, changed) {
  const element = h("div", { class: "stack" });
  let box = null;

  function use(name, wanted) {
    settings.person = [...(settings.person ?? []).filter((one) => one.toLowerCase() !== name.toLowerCase()), ...(wanted ? [name] : [])];
    changed(found);
  }

  function draw(now) {
    found = now;
    for (const one of (settings.person ?? []).filter((name) => !name.includes("=") && !found.persons.includes(name.toLowerCase()))) use(one, false);
    changed(found);
    const chosen = (settings.person ?? []).map((one) => one.toLowerCase());
    replace(element, h("p", { class: "quiet-text" }, t("live.learnt_help")),
      found.persons.map((name) => h("div", { class: "row" }, check(t("live.learnt_use", { name }), chosen.includes(name), (wanted) => use(name, wanted)),
        button(t("live.learnt_remove"), () => remove(name, "live.learnt_remove_text"), { kind: "small quiet", "aria-label": t("live.learnt_remove_name", { name }) }))),
      found.unfinished.map((name) => h("div", { class: "row" }, h("span", {}, t("live.learnt_unfinished", { name })),
        button(t("live.learnt_remove"), () => remove(name, "live.learnt_remove_rest"), { kind: "small quiet", "aria-label": t("live.learnt_remove_name", { name }) }))),
      found.here ? button(t("live.learn"), learn, { kind: "small" }) : note(t("live.learn_missing")));
  }

  async function remove(name, text) {
    if (await confirm(t("live.learnt_remove_title", { name }), t(text, { name }), t("live.learnt_remove")))
      draw(await api.delete(`/api/persons/${encodeURIComponent(name)}`));
  }

  function learn() {
    box = learnDialog(found, devices, (name) => { use(name.toLowerCase(), true); }, async () => { box = null; draw(await api.get("/api/persons")); });
  }
  draw(found);
  return { element, end() { box?.close(); } };
}

/** Learns one person: asks for name, source and consent; then shows the live picture with the missing poses, the training, and the gain. */
function learnDialog(found, devices, learnt, closed) {
  const cameras = devices.filter((one) => one.kind === "camera").map((one) => [one.address, `${one.name} (${one.address})`]);
  const kinds = [...cameras, ["film", t("live.learn_film")], ["folder", t("live.learn_folder")]];
  const asked = { name: "", source: kinds[0][0], path: "", agreed: false };
  const form = h("div", { class: "stack" }), work = h("div", { class: "stack", role: "status" });
  let mine = WORKS.includes(found.learning.state), last = null, heard = null;
  const text = (key, label) => {
    const input = h("input", { type: "text", value: asked[key], spellcheck: "false", oninput: () => { asked[key] = input.value; } });
    return field(label, input);
  };

  function drawForm() {
    const own = cameras.some(([address]) => address === asked.source);
    replace(form, text("name", t("live.person_name")),
      select(t("live.source_from"), kinds, asked.source, (value) => { asked.source = value; drawForm(); }),
      own ? h("p", { class: "quiet-text" }, t("live.learn_camera")) : [text("path", t("live.path")),
        button(t("app.choose_file"), () => (asked.source === "film" ? chooseFilm : chooseFolder)((path) => { asked.path = path; drawForm(); }), { kind: "small" })],
      h("p", {}, t("live.learn_consent")),
      check(t("live.learn_agree"), asked.agreed, (value) => { asked.agreed = value; }),
      button(t("live.learn_start"), begin, { kind: "primary" }));
  }

  async function begin() {
    const own = cameras.some(([address]) => address === asked.source);
    heard = null;
    const name = asked.name.trim().toLowerCase();
    if (found.persons.includes(name) && !await confirm(t("live.learn"), t("live.learn_again", { name }), t("live.learn_start"))) return;
    const { learning } = await api.post("/api/persons/learn", { name: asked.name, source: own ? asked.source : asked.path, agreed: asked.agreed });
    mine = true;
    replace(form);
    show(heard ?? learning); // an event may arrive before the response
  }

  const picture = h("img", { class: "learn-picture", alt: t("live.learn_picture"), hidden: true });
  const bar = h("progress", { max: 1 }), said = h("p", {}), poses = h("ul", { class: "learn-poses" });
  const cancel = button(t("live.learn_cancel"), async () => { await api.post("/api/persons/stop"); }, { kind: "small danger" });

  function show(state) {
    if (!mine || state === last) return;
    last = state;
    if (WORKS.includes(state.state)) {
      const camera = state.doing === "camera", missing = state.missing ?? [];
      if (!picture.isConnected) replace(work, picture, poses, said, bar, cancel);
      picture.hidden = !camera || !state.picture;
      if (state.picture) picture.src = state.picture;
      replace(poses, camera ? POSES.map((name) => h("li", { class: missing.includes(name) ? "" : "done" }, missing.includes(name) ? "○ " : "✓ ", t(`live.pose_${name}`))) : null);
      said.textContent = camera ? `${t(`live.pose_${missing[0] ?? "enough"}`)} ${clock(state.left_s ?? 0)}` : state.code ? translated(state) : t("live.learn_begins");
      if (state.share === undefined) bar.removeAttribute("value"); else bar.value = state.share;
      return;
    }
    mine = false;
    const gains = Object.entries(state.result?.gains ?? {}).map(([kind, gain]) => t(`live.gain_${kind}`, { gain: gain.toFixed(2) })).join(", ");
    replace(work, state.state === "done" ? note(t("live.learn_done", { name: state.result.name, gains, seconds: Math.round(state.result.seconds) })) :
      state.state === "stopped" ? note(t("live.learn_stopped")) : state.error ? note(translated(state.error), "bad") : null);
    if (state.state === "done") learnt(state.result.name);
    else drawForm();
  }

  const box = dialog(t("live.learn"), form, work);
  const end = on("persons", (state) => { heard = state; show(state); });
  box.addEventListener("close", () => { end(); closed(); });
  if (mine) show(found.learning); else drawForm();
  return box;
}
