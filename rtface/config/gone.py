"""Options and commands that were removed, and what does their work."""

from __future__ import annotations

from rtface.errors import Message, UsageError

_MACHINES = Message(
    "--workers N works on N parts of a film here, --farm dask://HOST:PORT on a cluster",
    code="gone_machines",
)
GONE = {
    "captions": Message(
        "use: ffmpeg -f lavfi -i 'movie=IN[out+subcc]' -map s -c copy OUT.scc",
        code="gone_captions",
    ),
    "damage": Message(
        "to soften the dots of a print, before rtface: magick IN -blur 0x2 -resize 50% OUT (ImageMagick; or blur and "
        "scale in GIMP)",
        code="gone_damage",
    ),
    "retention": Message(
        "remove old folders *.rtface by a task of the system (cron, systemd-tmpfiles, Task Scheduler), and ended items "
        "by: rtface queue remove done",
        code="gone_retention",
    ),
    "page": Message(
        "review prints the places; --csv FILE lists them for 'rtface run --shots FILE', which can weaken each",
        code="gone_page",
    ),
    "undo": Message("it gave back what INPUT is: keep INPUT", code="gone_undo"),
    "keep_correction": Message(
        "keep INPUT, or write before and after, side by side: --compare FILE.mkv --codec ffv1",
        code="gone_keep_correction",
    ),
    "segments": Message("--workers N works on N parts of a film at the same time", code="gone_segments"),
    "metrics": Message("--control PORT answers GET /metrics, too", code="gone_metrics"),
    "work": _MACHINES,
    "segment": _MACHINES,
    "files_only": Message("verify checks files, sidecar and INPUT without it", code="gone_files_only"),
}
"""Advice by the name of an option, as the settings file has it, or of a command."""


def gone(name: str, shown: str) -> UsageError | None:
    """The error for something removed, called `shown` where it was written; None for any other name."""
    advice = GONE.get(name.lstrip("-").replace("-", "_"))
    if advice is None:
        return None
    return UsageError("{option} is gone; {advice}", code="option_gone", option=shown, advice=advice)
