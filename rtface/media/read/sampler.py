"""Samples single frames of a film by seeking."""

from __future__ import annotations

import os
from fractions import Fraction

import av

from rtface.errors import InputError, UsageError
from rtface.frame import Frame
from rtface.media.read.container import choose_video, clock_start_of, open_container, time_base_of
from rtface.media.read.decoder import Decoder
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.faults import Faults
from rtface.media.read.pipe import is_pipe
from rtface.media.read.timeline import Cut
from rtface.redaction import is_url, shown


class FrameSampler:
    """Returns single frames of a film. Does not decode all the frames between them.

    Args:
        path: file of a film, or a URL that PyAV opens.
        scale: size to enlarge frames to (``--scale``); None leaves them unchanged.
        variant: variant of an HLS manifest (``--variant``).

    Attributes:
        clock_start: start of the input's clock in seconds; times count from here.
        duration_s: duration in seconds; None if the container does not state it.

    Raises:
        InputMissing, InputError: see `rtface.media.read.source.FileSource`.
        UsageError: the input is a pipe, which cannot seek.
    """

    def __init__(self, path: str | os.PathLike[str], scale: str | None = None, *, variant: str = "best") -> None:
        self._path, self._name = path, shown(path)
        self._enlarger = Enlarger(scale)
        if is_pipe(path):
            raise UsageError(
                "{name}: is a pipe, which cannot seek; copy it to a file first",
                code="pipe_seek",
                name=self._name,
            )
        self._container = open_container(path)
        try:
            self._video, _ = choose_video(self._container, self._name, variant=variant)
        except BaseException:
            self._container.close()
            raise
        # Frame threads would delay the first frame by one frame each.
        self._video.codec_context.thread_type = "SLICE"
        self._base = time_base_of(self._video)
        self._returned: set[int] = set()
        self.clock_start = clock_start_of(self._container)
        self.duration_s = self._container.duration / 1e6 if self._container.duration else None

    def at(self, seconds: float, start: float = 0.0) -> Frame | None:
        """Returns the keyframe at or before a time, counted from the beginning. If it precedes `start` or was returned
        before, returns the frame at that time instead. Returns None if this frame was returned before, too.

        Raises:
            InputError: seeking in the film fails.
        """
        base, target = self._base, self._seek(seconds)
        first, skipping = self.clock_start + Fraction(start).limit_denominator(1_000_000), False
        cut = Cut(self.clock_start)
        decoder = Decoder(
            self._container,
            self._video,
            Faults(self._name),
            cut,
            remote=is_url(self._path),
            enlarger=self._enlarger,
        )
        for item in decoder.items():
            if not isinstance(item, Frame):
                continue
            returned, time = item.pts in self._returned, item.pts * base
            if time < target and (returned or skipping or time < first):
                skipping = True
                continue
            if returned:
                return None
            self._returned.add(item.pts)
            return item
        return None

    def keyframe_before(self, seconds: float) -> Fraction | None:
        """Returns the time of the last keyframe up to `seconds`. `seconds` counts from the beginning; the result is in
        seconds of the input's clock, or None if there is no keyframe. Nothing is decoded.

        Raises:
            InputError: seeking in the film fails.
        """
        self._seek(seconds)
        packet = next(iter(self._container.demux(self._video)), None)
        return packet.pts * self._base if packet is not None and packet.pts is not None else None

    def _seek(self, seconds: float) -> Fraction:
        """Seeks to the keyframe at or before a time. Returns that time on the input's clock. May raise InputError."""
        target = self.clock_start + Fraction(seconds).limit_denominator(1_000_000)
        try:
            self._container.seek(int(target / self._base), stream=self._video)
        except av.FFmpegError as error:
            raise InputError(
                "{name}: seeking failed ({why}); copy it into another container, such as MKV",
                code="seek_failed",
                name=self._name,
                why=error.strerror,
            ) from error
        return target

    def close(self) -> None:
        """Releases the film; safe to call twice."""
        self._container.close()


def spread(count: int) -> list[float]:
    """Returns the start of van der Corput's sequence (base 2, 0…1). Each prefix is spread evenly."""
    return [int(f"{k:b}"[::-1], 2) / 2 ** k.bit_length() for k in range(count)]
