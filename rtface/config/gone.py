"""Lists options and commands that were removed, and their replacements."""

from __future__ import annotations

from rtface.errors import Message, UsageError

_MACHINES = Message(
    "--workers N processes N parts of a film at once; --farm dask://HOST:PORT uses a cluster",
    code="gone_machines",
)
_PLAN = Message("repeat INPUT, OUTPUT and options, or store options in a file: --config FILE", code="gone_plan")
_NOTIFY = Message("use: rtface queue run; notify-send 'rtface has finished'", code="gone_notify")
GONE = {
    "fidelity": Message("use --look NUMBER, in a file: look = NUMBER", code="gone_fidelity"),
    "gop": Message("live films and streams have an I-frame every 2 s, as platforms require", code="gone_gop"),
    "buffer": Message(
        "the buffer adapts to the jitter; for a fixed one use --delay MS: the buffer is that delay less --latency",
        code="gone_buffer",
    ),
    "show": Message("use --invented show", code="gone_show"),
    "progress": Message("use --events 2, which every command has", code="gone_progress"),
    "captions": Message(
        "use: ffmpeg -f lavfi -i 'movie=IN[out+subcc]' -map s -c copy OUT.scc",
        code="gone_captions",
    ),
    "damage": Message(
        "to soften the dots of a print, run before rtface: magick IN -blur 0x2 -resize 50% OUT (ImageMagick; or blur "
        "and scale in GIMP)",
        code="gone_damage",
    ),
    "retention": Message(
        "remove old folders *.rtface with a scheduled task (cron, systemd-tmpfiles, Task Scheduler), and ended items "
        "with: rtface queue remove done",
        code="gone_retention",
    ),
    "review": Message("the report (--report FILE) and the studio show the 20 most doubtful places", code="gone_review"),
    "policy": Message("the administrator's settings are policy.toml in the system's folder", code="gone_policy"),
    "forbid": Message("set the option itself to what is allowed, as in: engine = 'rtface-s'", code="gone_forbid"),
    "require_label": Message("write: stages = ['label:preset=eu-modified']", code="gone_require_label"),
    "require_credentials": Message("write: sign = '/path/CERT,/path/KEY'", code="gone_require_credentials"),
    "require_consent": Message("rtface learn asks for consent itself", code="gone_require_consent"),
    "invented": Message("it is an option of rtface run: --invented FILE, or --invented show", code="gone_invented"),
    "budget": Message("--count N shows more or fewer faces", code="gone_budget"),
    "strengths": Message("rtface run --strength 0.5 --compare FILE shows another strength", code="gone_strengths"),
    "sheet": Message("--photos DIR writes the faces of each person", code="gone_sheet"),
    "plan": _PLAN,
    "trust_plan": _PLAN,
    "undo": Message("INPUT is not changed, so keep it", code="gone_undo"),
    "keep_correction": Message(
        "keep INPUT, or write before and after, side by side: --compare FILE.mkv --codec ffv1",
        code="gone_keep_correction",
    ),
    "segments": Message("--workers N works on N parts of a film at the same time", code="gone_segments"),
    "then": Message("use: rtface queue run && CMD", code="gone_then"),
    "notify": _NOTIFY,
    "no_notify": _NOTIFY,
    "preview": Message("use --control show", code="gone_preview"),
    "metrics": Message("--control PORT answers GET /metrics, too", code="gone_metrics"),
    "work": _MACHINES,
    "segment": _MACHINES,
    "files_only": Message("verify checks files, sidecar and INPUT without it", code="gone_files_only"),
    "checksums": Message(
        "--sidecar has the SHA-256 of INPUT and OUTPUT; for a separate list: sha256sum OUTPUT > OUTPUT.sha256",
        code="gone_checksums",
    ),
    "status": Message("rtface run shows how much of a film is done, and continues from there", code="gone_status"),
    "job": Message(
        "the folder of a job is OUTPUT.rtface; a link of that name puts it on another disk", code="gone_job"
    ),
    "by_part": Message(
        "shots and tracks have on, off and strength; for other options, run that part alone: --start A --end B",
        code="gone_by_part",
    ),
    "manifest": Message("put OUTPUT.rtface.json next to OUTPUT", code="gone_manifest"),
    "write": Message("use: sha256sum OUTPUT > OUTPUT.sha256", code="gone_write"),
    "credentials": Message("--sign CERT,KEY signs; docs/trust.md explains how to make them", code="gone_credentials"),
    "build": Message("the first run on a GPU builds its plan and stores it", code="gone_build"),
    "precision": Message(
        "a plan is built in fp16, bf16 or fp32, the first whose results match the reference's", code="gone_precision"
    ),
    "timestamp": Message(
        "signatures have no time stamp; to prove a time: openssl ts -query -data OUTPUT (RFC 3161)",
        code="gone_timestamp",
    ),
}
"""Advice for each option (named as in the settings file) or command."""


def gone(name: str, display_name: str) -> UsageError | None:
    """Returns the error for a removed option or command, or None. `display_name` is its name as the user wrote it."""
    advice = GONE.get(name.lstrip("-").replace("-", "_"))
    if advice is None:
        return None
    return UsageError("{option} was removed; {advice}", code="option_gone", option=display_name, advice=advice)
