// The state of a live run in words and numbers.
import { h } from "../../lib/dom.js";
import { clock, number, percent, t, textOr, translated } from "../../lib/text.js";

export const shortened = (address) => (address.startsWith("null:") ? t("live.nowhere") : /^([/\\]|[A-Za-z]:\\)/.test(address) && !address.startsWith("/dev/") ? address.split(/[\\/]/).pop() : address);

/** Describes an output that drops frames, with a remedy. */
const dropping = ({ name, percent: share, cause }) => t("live.dropping", { name: shortened(name), share, why: textOr(`live.dropping_${cause}`, cause) });

/** Describes the problem of a source or output. */
const away = ({ name, state, message }) => (message.values.name ? translated(message) : `${shortened(name)}: ${message.message ? translated(message) : t(`live.state_${state}`)}`); // some messages contain the name

/** Describes the quality levels of faces, such as "full, small key/2", in words. */
export const levels = (ladder) => (ladder || "full").split(", ").map((level) => level.split(" ").map((word) => {
  const [name, every] = word.split("/");
  return { full: t("live.level_full"), half: t("live.level_half"), small: t("live.level_small"), key: t("live.level_key", { every }), "pass-through": t("live.level_none") }[name] ?? word;
}).join(", ")).join("; ");

/** Describes the problems of all sources and outputs. */
export const troubles = (status) => [...status.losses.map(dropping),
  ...[status.source, status.sound, ...status.sinks].filter((end) => end && end.state !== "live" && !end.name.startsWith("null:")).map(away)];

/** Returns names and values for a list of figures. */
export function figuresOf(status) {
  const { p50, p95, p99 } = status.latency_ms;
  return [
    ["live.fps", number(status.fps, 1)], ["live.faces", number(status.faces)],
    ["live.latency", p50 === undefined ? "–" : `${number(p50)} / ${number(p95)} / ${number(p99)} ms`],
    ["live.dropped", number(Object.values(status.dropped).reduce((a, b) => a + b, 0))],
    ["live.level", levels(status.ladder)],
    ["live.processor", status.cpu_share === null ? "–" : percent(status.cpu_share)],
    ["live.left", status.cpu_share === null ? "–" : percent(Math.max(0, status.cpu_budget - status.cpu_share))],
    ["live.time", clock(status.seconds)],
    ...status.sinks.filter((end) => !end.name.startsWith("null:")).map((end) => [null, end.frames, end.name])].map(([key, value, name]) =>
    [h("dt", {}, key ? t(key) : t("live.frames_to", { name: shortened(name) })), h("dd", {}, value)]);
}
