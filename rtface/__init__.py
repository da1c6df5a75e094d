"""rtface: real-time face enhancement for video.

    import rtface

    rtface.run("call.mp4", "clear.mp4", strength=0.8)

    with rtface.Enhancer() as e:
        for picture in pictures:        # H×W×3 uint8
            show(e(picture))

Names are imported on first use, so that ``import rtface`` itself is quick.
"""

from __future__ import annotations

import importlib
import sys
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Importing OpenVINO sends an event to its makers' statistics, and keeps a client's number in the home folder. Without
# this package it takes a stand-in of its own that does nothing. Nothing leaves the machine by rtface.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from rtface.config import Options
    from rtface.enhancer import Enhancer
    from rtface.errors import RtfaceError
    from rtface.frame import Face, Frame
    from rtface.media.file_sink import FileSink
    from rtface.media.source import open_source
    from rtface.media.stream_plan import plan_output
    from rtface.report import Report

__all__ = ["Enhancer", "Face", "FileSink", "Frame", "Options", "Report", "RtfaceError", "__version__", "open_source",
           "plan_output", "run"]

_HOME = {"Options": "config", "Enhancer": "enhancer", "RtfaceError": "errors", "Face": "frame", "Frame": "frame",
         "FileSink": "media.file_sink", "open_source": "media.source", "plan_output": "media.stream_plan",
         "Report": "report"}


def run(input: str | PathLike[str], output: str | PathLike[str], **options: Any) -> Report:
    """Enhances the faces of a film, a still, a folder of stills, a camera or a stream, and works on nothing else.

    Outside the faces every sample is the input's until it is encoded; a lossy encoder changes all of the picture a
    little.

    Args:
        input: whatever PyAV opens (a film, an address such as https://…), a still, or a folder of stills; live:
            "camera:0" or a stream's URL.
        output: file or folder, a file's extension names its kind; live: "vcam:", a URL, "null:" or a recording. Such a
            run goes on until a film has ended or the process is interrupted (docs/live.md).
        options: the fields of `rtface.Options`, which are those of ``rtface run``.

    Returns:
        What was done, in figures; see docs/report.md.

    Raises:
        RtfaceError: see `rtface.errors`; each is also the builtin that fits.
    """
    from pathlib import Path

    from rtface.address import place
    from rtface.config import Options
    from rtface.live.endpoints import endpoint, is_live, unwrapped

    chosen = Options.of(options)
    names = [unwrapped(fspath(end)) for end in (input, output)]
    ends = endpoint(names[0]), endpoint(names[1])
    if is_live(*ends):
        from rtface.live.ends import make_ends
        from rtface.live.run import run_live
        from rtface.stats import Stats

        stats = Stats()
        return run_live(make_ends(*ends, chosen, stats), chosen, stats=stats)
    from rtface.runner import run_file

    return run_file(place(names[0]), Path(names[1]), chosen)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"rtface.{_HOME[name]}"), name)
    raise AttributeError(f"module 'rtface' has no attribute {name!r}")
