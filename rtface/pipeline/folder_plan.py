"""How a film becomes a folder of stills."""

from __future__ import annotations

from dataclasses import dataclass

from rtface.errors import Message, UsageError
from rtface.media.read.source import FileSource
from rtface.media.read.start_timecode import output_timecode
from rtface.media.stills.image_write import ONLY_FROM_EXR, SUFFIXES
from rtface.media.stills.images import SequenceSource
from rtface.media.write.encoders import VideoPlan
from rtface.util.timecode import Timecode


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """How a film becomes a folder of stills.

    Attributes:
        kind: of the stills, as `rtface.media.stills.image_write.SUFFIXES` has them.
        timecode: of the first still; None for none.
        written: the timecode that the headers of the stills get; None leaves theirs.
        video: how their samples compare with those of the frames, as an encoder that keeps them; None where the stills
            hold others.
        warning: for the user; "" for none.
    """

    kind: str
    timecode: Timecode | None
    written: Timecode | None
    video: VideoPlan | None
    warning: str = ""


def plan_folder(codec: str | None, begins: str | None, source: FileSource | SequenceSource) -> FolderPlan:
    """How a film becomes a folder of stills: ``--codec`` names their kind, which is that of INPUT's images without."""
    info, read = source.info, source if isinstance(source, SequenceSource) else None
    if codec == "exr" and not (read is not None and read.kind == "exr"):
        raise UsageError("{--codec} exr: {why}", code="codec_reason", why=ONLY_FROM_EXR)
    kind, warning = (read.kind if read is not None and read.kind in SUFFIXES else "png"), ""
    if codec in SUFFIXES:
        kind = codec
    elif codec is not None:
        warning = Message(
            "{--codec:{codec}}: a folder takes images ({kinds}); {kind} is written",
            code="folder_codec",
            codec=codec,
            kinds=", ".join(SUFFIXES),
            kind=kind.upper(),
        )
    timecode = output_timecode(info.timecode, begins, info.rate, info.skipped)
    same = read is not None and read.kind == kind
    # The headers of scans that were read have their own timecodes.
    written = timecode if kind in ("dpx", "exr") and (begins is not None or not same) else None
    video = (
        VideoPlan(
            kind,
            info.pix_fmt,
            info.width,
            info.height,
            info.rate,
            info.time_base,
            info.tags,
            info.aspect,
            lossless=True,
        )
        if same and kind != "exr"
        else None
    )
    return FolderPlan(kind, timecode, written, video, warning)
