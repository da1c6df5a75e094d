"""Chooses a variant (quality) and its streams in HLS manifests."""

from __future__ import annotations

from collections.abc import Sequence

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from rtface.errors import InputError, Message


def variants_of(container: InputContainer) -> list[av.VideoStream]:
    """Lists the video streams of variants in order. Returns none for other inputs."""
    videos = container.streams.video if container.format.name == "hls" else ()
    return [
        stream
        for stream in videos  # an audio playlist can contain a cover
        if _bandwidth(stream) and stream.codec_context and not stream.disposition & Disposition.attached_pic
    ]


def choose_variant(variants: Sequence[av.VideoStream], choice: str, name: str) -> tuple[av.VideoStream, Message | None]:
    """Chooses the requested variant, with a note if there are several.

    Args:
        variants: result of `variants_of`, or only the video stream if the input has no variants.
        choice: value of ``--variant``: "best", a number in the list (counted from 1), or a height.
        name: name of the input, for messages.

    Raises:
        InputError: there is no variant with that number or height.
    """
    listed = ", ".join(f"{number} ({_label(stream)})" for number, stream in enumerate(variants, 1))
    matching = [
        stream
        for number, stream in enumerate(variants, 1)
        if choice == "best" or int(choice) == (number if int(choice) <= len(variants) else stream.height)
    ]
    if not matching:
        raise InputError(
            "{name}: has no variant {wanted}; available: {listed}; choose one by its height or number, or the best "
            "({--variant:best})",
            code="no_variant",
            name=name,
            wanted=choice,
            listed=listed,
        )
    chosen = max(matching, key=lambda stream: (stream.width * stream.height, _bandwidth(stream)))
    if len(variants) == 1:
        return chosen, None
    return chosen, Message(
        "{name}: has {count} variants; number {number} ({chosen}) is read; at most one segment "
        "of any other is read ({--variant})",
        code="variant_read",
        name=name,
        count=len(variants),
        number=variants.index(chosen) + 1,
        chosen=_label(chosen),
    )


def kept_streams(container: InputContainer, video: av.VideoStream) -> list[Stream]:
    """Lists the streams to keep with a video, in container order. From an HLS manifest, only streams of the
    video's variant are kept."""
    if not variants_of(container):
        return list(container.streams)
    kinds = ("audio", "subtitle", "data")
    return [s for s in container.streams if s is video or (s.type in kinds and _is_in_variant(container, video, s))]


def _is_in_variant(container: InputContainer, video: av.VideoStream, stream: Stream) -> bool:
    """Returns whether an audio or subtitle stream belongs to a variant.

    PyAV does not expose FFmpeg's programs, but FFmpeg can find the best stream in a video's program. If `stream` is
    marked as the best of all, FFmpeg returns it if it belongs to the program.
    """
    shared = "comment" in stream.metadata  # NAME of EXT-X-MEDIA: variants share it, so its bit rate is no help
    if not shared and _bandwidth(stream) not in (0, _bandwidth(video)):
        return False  # FFmpeg would return another variant's stream if this variant has none
    if not getattr(stream.codec_context, "sample_rate", True):  # FFmpeg ignores audio without packets
        return container.streams.best("video", related=stream) is video
    dispositions = {other: other.disposition for other in container.streams if other.type == stream.type}
    for other in dispositions:
        other.disposition = Disposition.default if other is stream else Disposition.hearing_impaired
    best = container.streams.best(stream.type, related=video)  # pyright: ignore[reportArgumentType]
    for other, disposition in dispositions.items():
        other.disposition = disposition
    return best is stream


def _bandwidth(stream: Stream) -> int:
    """Reads the variant's bit rate in bit/s. Returns 0 if no manifest states it."""
    return int(stream.metadata.get("variant_bitrate", 0))


def _label(stream: av.VideoStream) -> str:
    return f"{stream.width}×{stream.height}" + (
        f", {_bandwidth(stream) / 1000:.0f} kbit/s" if _bandwidth(stream) else ""
    )
