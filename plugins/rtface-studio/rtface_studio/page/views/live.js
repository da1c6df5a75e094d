// Live: set up a run between a source and an output, start it, watch and change it while it runs.
import { api } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { on } from "../lib/events.js";
import { t } from "../lib/text.js";
import { showError, toast } from "../lib/ui.js";
import { mountMonitor } from "./live/monitor.js";
import { mountSetup } from "./live/setup.js";

const ALIVE = ["starting", "running"];

export function mount(root) {
  /** @type {{ end(): void, update(run: any): void }} */
  const nothing = { end() {}, update() {} };
  let part = null, mounted = nothing, newest = null, shows = 0, left = false;

  /** Shows a run. Ends the new part if the view was left, or another run was shown, while it loaded. */
  async function show(run) {
    if (left) return;
    newest = run;
    const wanted = ALIVE.includes(run.state) ? "monitor" : "setup";
    if (wanted === part) return mounted.update(run);
    const ended = part && run.state === "ended";
    change(wanted);
    const mine = shows, place = h("div");
    try {
      const loaded = await (wanted === "monitor" ? mountMonitor : mountSetup)(place, run, { changed: show });
      if (mine !== shows) return loaded.end();
      mounted = loaded;
    } catch (error) {
      if (mine === shows) part = null; // the next change of the run tries again
      throw error;
    }
    replace(root, ...place.childNodes);
    if (ended) toast(t("live.ended"));
    if (newest !== run) mounted.update(newest);
  }
  function change(next) {
    shows++;
    mounted.end();
    mounted = nothing;
    part = next;
  }
  api.get("/api/live").then(show).catch(showError); // not awaited, because the view may be left before the response
  const endEvents = on("live", (run) => { if (run.state !== "none") show(run); });
  return () => { left = true; endEvents(); change(null); };
}
