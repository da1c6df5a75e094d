// Live: set up a run between a source and an output, start it, watch and change it while it runs.
import { api } from "../lib/api.js";
import { on } from "../lib/events.js";
import { mountMonitor } from "./live/monitor.js";
import { mountSetup } from "./live/setup.js";

const ALIVE = ["starting", "running"];

export async function mount(root) {
  let shown = null, end = () => {}, update = () => {};

  async function show(run) {
    const part = ALIVE.includes(run.state) ? "monitor" : "setup";
    if (part === shown) return update(run);
    end();
    shown = part;
    const mounted = await (part === "monitor" ? mountMonitor : mountSetup)(root, run, { changed: show });
    end = mounted.end;
    update = mounted.update;
  }
  await show(await api.get("/api/live"));
  const endEvents = on("live", (run) => { if (run.state !== "none") show(run); });
  return () => { endEvents(); end(); };
}
