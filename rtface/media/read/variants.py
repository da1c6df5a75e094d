"""The variants (qualities) of an HLS or DASH list: which is read, and the streams that belong to it."""

from __future__ import annotations

from collections.abc import Sequence

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from rtface.errors import InputError, Message


def variants_of(container: InputContainer) -> list[av.VideoStream]:
    """Lists the videos of variants in their order; none of other inputs."""
    videos = container.streams.video if container.format.name in ("hls", "dash") else ()
    return [
        stream
        for stream in videos  # a list of sound alone can bring a cover
        if _bandwidth(stream) and stream.codec_context and not stream.disposition & Disposition.attached_pic
    ]


def choose_variant(variants: Sequence[av.VideoStream], wanted: str, name: str) -> tuple[av.VideoStream, Message | None]:
    """Chooses the variant asked for, and says so where there are several.

    Args:
        variants: as `variants_of` gives them; of an input without any its video.
        wanted: by ``--variant``: "best", a number in the list from 1 on, or a height.
        name: of the input, for messages.

    Raises:
        InputError: there is none of that number or height.
    """
    listed = ", ".join(f"{number} ({_called(stream)})" for number, stream in enumerate(variants, 1))
    fitting = [
        stream
        for number, stream in enumerate(variants, 1)
        if wanted == "best" or int(wanted) == (number if int(wanted) <= len(variants) else stream.height)
    ]
    if not fitting:
        raise InputError(
            "{name}: has no variant {wanted}, but {listed}; name one by its height or number, or the best "
            "({--variant:best})",
            code="no_variant",
            name=name,
            wanted=wanted,
            listed=listed,
        )
    chosen = max(fitting, key=lambda stream: (stream.width * stream.height, _bandwidth(stream)))
    if len(variants) == 1:
        return chosen, None
    return chosen, Message(
        "{name}: has {count} variants; number {number} ({chosen}) is read, of the others the first piece at most "
        "({--variant})",
        code="variant_read",
        name=name,
        count=len(variants),
        number=variants.index(chosen) + 1,
        chosen=_called(chosen),
    )


def kept_streams(container: InputContainer, video: av.VideoStream) -> list[Stream]:
    """Lists the streams that belong to the film of a video, in the order of the container: of an HLS or DASH list those
    of its variant."""
    if not variants_of(container):
        return list(container.streams)
    others = ("audio", "subtitle", "data")
    return [s for s in container.streams if s is video or (s.type in others and _is_in_variant(container, video, s))]


def _is_in_variant(container: InputContainer, video: av.VideoStream, stream: Stream) -> bool:
    """Says whether a sound or subtitle belongs to a variant.

    PyAV does not give FFmpeg's programs, but FFmpeg finds the best stream of that of a video: `stream`, once it is
    marked as the best, if it is there.
    """
    shared = "comment" in stream.metadata  # NAME of EXT-X-MEDIA: variants share it, and FFmpeg says the last one's rate
    if container.format.name == "hls" and not shared and _bandwidth(stream) not in (0, _bandwidth(video)):
        return False  # FFmpeg finds one of any variant where this one has none
    if not getattr(stream.codec_context, "sample_rate", True):  # FFmpeg passes over a sound of which nothing came yet
        return container.streams.best("video", related=stream) is video
    marks = {one: one.disposition for one in container.streams if one.type == stream.type}
    for one in marks:
        one.disposition = Disposition.default if one is stream else Disposition.hearing_impaired
    best = container.streams.best(stream.type, related=video)  # pyright: ignore[reportArgumentType]
    for one, mark in marks.items():
        one.disposition = mark
    return best is stream


def _bandwidth(stream: Stream) -> int:
    """Reads the variant's bits a second; 0 where no list names it."""
    return int(stream.metadata.get("variant_bitrate", 0))


def _called(stream: av.VideoStream) -> str:
    return f"{stream.width}×{stream.height}" + (
        f", {_bandwidth(stream) / 1000:.0f} kbit/s" if _bandwidth(stream) else ""
    )
