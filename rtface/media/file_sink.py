"""Frames and packets into a film file that appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.container.core import Flags
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from rtface.errors import OutputError
from rtface.frame import Frame, Packet
from rtface.media import codec as codecs
from rtface.media.picture import fit
from rtface.media.probe import boxes, rate_of
from rtface.media.stream_plan import OutputPlan, StreamPlan, raw_bytes_a_second
from rtface.media.transcode import Adts, Sound, Text
from rtface.media.workfile import WorkFile, full
from rtface.protocols import Item
from rtface.provenance import append_xmp_box
from rtface.stats import Stats

AnyPacket: TypeAlias = "av.Packet[Any]"

# Packets of other streams that wait for the pictures they belong beside.
_WAITING_BYTES = 32 << 20
# Encoded pictures that may lie in the muxer while a stream with nothing to say holds it up.
_MUXER_BYTES = 32 << 20
# What a crash can cost at most: half a second, or this much.
_PIECE_BYTES = 1 << 20
# MP4 writes its header when every stream has spoken; one that is silent for longer is not waited for.
_SILENT_S, _SILENT_BYTES = 5, 16 << 20
# Tags that describe the old file rather than the film.
_STALE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "bps", "number_of_frames",
          "number_of_bytes", "source_id", "vendor_id"}
_BLANK_CUE = b"\0\0"  # a mov_text event without text: an empty string after its 16-bit length


class FileSink:
    """Encodes frames, copies or transcodes the packets of the other streams, and interleaves them.

    Until `finish`, everything goes into a hidden file beside the output that can be played at any moment: Matroska as
    it is, MP4 and MOV in fragments of half a second that become an ordinary file at the end. Memory is bounded whatever
    the length: packets of other streams wait for their pictures in at most 32 MB, and the muxer holds about as much.

    Args:
        plan: what was decided; its input must still be open.
        stats: receives counters and the time that encoding takes.
        threads: encoder threads, None for the encoder's own choice.

    Raises:
        OutputError: the working file cannot be made.
    """

    def __init__(self, plan: OutputPlan, stats: Stats | None = None, threads: int | None = None) -> None:
        self._plan = plan
        self._stats = stats or Stats()
        plan.video.threads = threads or 0
        for line in plan.video.warnings:
            self._stats.warn(f"encode:{line[:24]}", f"{plan.path}: {line}")
        try:
            self._file = WorkFile(plan.target.work)
        except OSError as error:
            raise OutputError(f"{plan.path}: the working file cannot be made ({error.strerror})") from error
        self._frames = 0
        self._written_s = 0.0
        self._over = False
        self._partial: str | None = None
        self._resume_at: float | None = None
        self._first: int | None = None  # pts of the first picture, in the encoder's unit
        self._shifts: dict[Fraction, int] = {}
        self._order = count()
        self._waiting: list[tuple[float, int, AnyPacket]] = []
        self._waiting_bytes = 0
        self._held: list[AnyPacket] | None = []
        self._held_bytes = 0
        self._last: dict[int, int] = {}
        self._container: OutputContainer = av.open(
            self._file, "w", format=plan.format, buffer_size=1 << 16, container_options=self._muxer_options())
        try:
            self._set_up()
        except BaseException:
            self._drop()
            raise

    # -- Sink ---------------------------------------------------------------------------------------------------

    @property
    def resume_at(self) -> float | None:
        """Where to go on after a partial film: seconds from the input's first moment, None where nothing was left."""
        return self._resume_at

    def write(self, item: Item) -> None:
        """Takes the next frame (in pts order) or packet.

        Raises:
            OutputError: the disk is full, or the encoder or muxer refuses; what was done is kept as a partial file.
        """
        try:
            if isinstance(item, Frame):
                with self._stats.time("encode"):
                    self._encode(item)
            else:
                self._other(item)
        except (OSError, av.FFmpegError, ValueError) as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Flushes, and makes the output appear under its name in one step.

        Raises:
            OutputError: as `write`.
        """
        if self._over:
            return
        try:
            self._flush()
            self._container.close()
            self._file.close()
        except (OSError, av.FFmpegError, ValueError) as error:
            raise self._failed(error) from error
        self._over = True
        if not self._frames:
            self._file.path.unlink(missing_ok=True)
            raise OutputError(f"{self._plan.path}: no picture came, so nothing was written")
        target = self._plan.target.path
        try:
            if self._plan.metadata and self._plan.format in ("mp4", "mov"):
                append_xmp_box(self._file.path, self._plan.metadata)
            self._file.path.replace(target)
        except OSError as error:
            self._partial = self._keep()
            raise OutputError(f"{self._plan.path}: could not be given its name ({error.strerror}); "
                              f"the whole film is {self._partial}") from error

    def abort(self, *, keep_partial: bool) -> str | None:
        """Ends early; with `keep_partial`, what was done becomes NAME.partial.EXT, which plays; gives its path."""
        if self._over:
            return self._partial
        if keep_partial and self._frames:
            try:
                self._flush()
                self._container.close()
            except (OSError, av.FFmpegError, ValueError) as error:
                self._stats.warn("partial", f"{self._plan.path}: the end of the partial film is missing ({error})")
            self._drop(keep=True)
            self._partial = self._keep()
        else:
            self._drop()
        return self._partial

    # -- setting up ---------------------------------------------------------------------------------------------

    def _muxer_options(self, *, silent: bool = False) -> dict[str, str]:
        plan = self._plan
        seconds = min(1.0, max(0.05, _MUXER_BYTES / max(1.0, raw_bytes_a_second(plan))))
        options = {"max_interleave_delta": str(round(1e6 * seconds))}
        if plan.format in ("mp4", "mov"):
            # delay_moov writes the header when all streams have begun, with their exact start times. Where a stream
            # keeps silent it would wait, and hold everything in memory, for ever; then the start times come at the end.
            flags = ["hybrid_fragmented", "empty_moov" if silent else "delay_moov"]
            if not any(s.action == "cover" for s in plan.streams):
                flags.append("use_metadata_tags")  # the other form of tags has no place for own names, this for covers
            options |= {"movflags": "+".join(flags), "use_editlist": "1", "frag_duration": "500000",
                        "frag_size": str(_PIECE_BYTES)}
        elif plan.format in ("matroska", "webm"):
            options |= {"cluster_time_limit": "500", "cluster_size_limit": str(_PIECE_BYTES),
                        "default_mode": "passthrough"}
        return options

    def _set_up(self) -> None:
        plan, container = self._plan, self._container
        container.flags |= Flags.flush_packets.value  # every finished cluster or fragment goes to the disk at once
        container.metadata.update(_fresh(plan.info.metadata) | plan.metadata)
        self._copies: dict[int, Stream] = {}
        self._sounds: dict[int, Sound] = {}
        self._rewrites: dict[int, Text | Adts] = {}
        self._covers: list[AnyPacket] = []
        self._cued: list[Stream] = []
        self._unheard: set[int] = set()
        plans = {p.stream.index: p for p in plan.streams}
        for stream in plan.info.streams:
            if stream.enhanced:
                self._video = self._add_video(stream.metadata, stream.disposition)
            elif stream.index in plans:
                self._add_other(plans[stream.index])
        chapters = self._chapters()
        if chapters:
            container.set_chapters(chapters)  # pyright: ignore[reportArgumentType]

    def _add_video(self, metadata: dict[str, str], disposition: Disposition) -> VideoStream:
        video = self._plan.video
        stream: VideoStream = self._container.add_stream(video.encoder, rate=video.rate)  # pyright: ignore
        codecs.configure(stream, video)
        stream.time_base = video.time_base
        stream.disposition = disposition
        stream.metadata.update(_fresh(metadata))
        matrix = self._plan.info.matrix
        if matrix is not None:
            stream.set_display_matrix(matrix)
        return stream

    def _add_other(self, plan: StreamPlan) -> None:
        source, info, container = plan.stream.template, plan.stream, self._container
        if plan.action == "drop":
            return
        if plan.action == "attach":
            assert info.picture is not None
            name, kind = _cover_name(info.codec)
            container.add_attachment(info.metadata.get("filename", name), info.metadata.get("mimetype", kind),
                                     info.picture)
            return
        if plan.action == "sound":
            assert isinstance(source, AudioStream)
            target: Any = container.add_stream(plan.encoder, rate=48_000)
            Sound.configure(source, target)
            self._sounds[info.index] = Sound(source, target, self._stats, self._plan.info.origin)
        elif plan.action == "text":
            assert isinstance(source, SubtitleStream)
            target = container.add_stream(plan.encoder)
            Text.configure(source, target)
            self._rewrites[info.index] = Text(source, target, self._stats)
            self._copies[info.index] = target
        elif source.codec_context is None:  # pyright: ignore[reportUnnecessaryComparison]
            target = container.add_stream_from_template(source)
        else:
            target = container.add_stream_from_template(source, opaque=True)
        target.disposition = info.disposition
        target.metadata.update(_fresh(info.metadata))
        if plan.action == "cover":
            assert info.picture is not None
            packet = av.Packet(info.picture)
            packet.stream, packet.time_base, packet.pts, packet.dts = target, Fraction(1, 90_000), 0, 0
            packet.is_keyframe = True
            self._covers.append(packet)
        elif plan.action == "copy" and info.kind != "attachment":
            self._copies[info.index] = target
            if self._plan.format in ("mp4", "mov") and isinstance(source, AudioStream) and Adts.needed(source):
                self._rewrites[info.index] = Adts(target)
        if target.type == "subtitle" and self._plan.format in ("mp4", "mov"):
            context = target.codec_context
            if plan.action == "text" or (context is not None and context.codec.canonical_name == "mov_text"):
                self._cued.append(target)
                return
        if plan.action in ("copy", "sound") and info.kind != "attachment":
            self._unheard.add(target.index)

    def _chapters(self) -> list[dict[str, Any]]:
        info, found = self._plan.info, list[dict[str, Any]]()
        for chapter in info.chapters:
            start = max(chapter.start - info.origin, Fraction(0))
            end = (chapter.end if info.end is None else min(chapter.end, info.end)) - info.origin
            if end > start:
                found.append({"id": len(found) + 1, "start": round(start * 1_000_000), "end": round(end * 1_000_000),
                              "time_base": Fraction(1, 1_000_000), "metadata": chapter.metadata})
        return found

    # -- pictures -----------------------------------------------------------------------------------------------

    def _shift(self, base: Fraction) -> int:
        """The output's first moment in units of a time base."""
        if base not in self._shifts:
            self._shifts[base] = round(self._plan.info.origin / base)
        return self._shifts[base]

    def _encode(self, frame: Frame) -> None:
        video = self._plan.video
        image = fit(frame.image, video)
        base = video.time_base
        pts, duration = frame.pts - self._shift(frame.time_base), frame.duration
        if frame.time_base != base:
            scale = frame.time_base / base
            pts, duration = round(pts * scale), max(1, round(duration * scale))
        last = self._last.get(-1)
        if last is not None and pts <= last:
            self._stats.count("pts_moved")
            pts = last + 1
        self._last[-1] = pts
        if self._first is None:
            self._first = pts
        image.pts, image.time_base, image.duration = pts, base, duration
        image.pict_type = 0  # the encoder chooses its own key frames
        packets = self._video.encode(image)
        self._frames += 1
        self._stats.count("frames_out")
        for packet in packets:
            self._picture(packet)

    def _picture(self, packet: AnyPacket) -> None:
        """Muxes an encoded picture behind everything that comes before it in time."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        moment = float((stamp or 0) * packet.time_base)
        self._release(moment)
        self._written_s = max(self._written_s, moment)
        self._mux(packet)

    # -- other streams ------------------------------------------------------------------------------------------

    def _other(self, item: Packet) -> None:
        index, packet = item.stream_index, item.packet
        if index in self._sounds:
            self._wait(self._sounds[index].push(packet))
        elif index in self._copies:
            shift = self._shift(packet.time_base)
            if packet.pts is not None:
                packet.pts -= shift
            if packet.dts is not None:
                packet.dts -= shift
            target = self._copies[index]
            rewrite = self._rewrites.get(index)
            self._wait(self._to(target, rewrite.push(packet) if rewrite else (packet,)))

    @staticmethod
    def _to(target: Stream, packets: Iterable[AnyPacket]) -> Iterator[AnyPacket]:
        for packet in packets:
            packet.stream = target
            yield packet

    def _wait(self, packets: Iterable[AnyPacket]) -> None:
        for packet in packets:
            stamp = packet.dts if packet.dts is not None else packet.pts
            moment = self._written_s if stamp is None else float(stamp * packet.time_base)
            heapq.heappush(self._waiting, (moment, next(self._order), packet))
            self._waiting_bytes += packet.size
        while self._waiting_bytes > _WAITING_BYTES:
            self._stats.count("interleave_overflow")
            self._release(self._waiting[0][0])

    def _release(self, moment: float) -> None:
        while self._waiting and self._waiting[0][0] <= moment:
            packet = heapq.heappop(self._waiting)[2]
            self._waiting_bytes -= packet.size
            self._mux(packet)

    # -- muxing -------------------------------------------------------------------------------------------------

    def _mux(self, packet: AnyPacket) -> None:
        if self._held is None:
            self._put(packet)
            return
        self._held.append(packet)
        self._held_bytes += packet.size
        self._unheard.discard(packet.stream_index)
        ready = (self._plan.format not in ("mp4", "mov") or not self._unheard or self._held_bytes > _SILENT_BYTES
                 or self._written_s > _SILENT_S)
        if ready and packet.stream_index == self._video.index:
            self._begin(silent=bool(self._unheard))

    def _begin(self, *, silent: bool = False) -> None:
        """Writes the header and everything that was held back for it."""
        held, self._held = self._held or [], None
        self._container.container_options.clear()
        self._container.container_options.update(self._muxer_options(silent=silent))
        for packet in self._covers:
            self._container.mux_one(packet)
        spoken = {packet.stream_index for packet in held}
        for stream in self._cued:
            if stream.index not in spoken:
                packet = av.Packet(_BLANK_CUE)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = 0
                packet.duration = 1
                self._put(packet)
        for packet in held:
            self._put(packet)

    def _put(self, packet: AnyPacket) -> None:
        index, dts = packet.stream_index, packet.dts
        if dts is not None and index != self._video.index:
            last = self._last.get(index)
            if last is not None and dts <= last:  # muxers refuse a stream whose time does not rise
                packet.dts = dts = last + 1
                packet.pts = dts if packet.pts is None else max(packet.pts, dts)
                self._stats.count("packet_times_moved")
            self._last[index] = dts
        self._container.mux_one(packet)

    def _flush(self) -> None:
        if self._frames:
            for packet in self._video.encode(None):
                self._picture(packet)
        for sound in self._sounds.values():
            self._wait(sound.finish())
        self._release(float("inf"))
        if self._held:
            self._begin(silent=False)

    # -- ends ---------------------------------------------------------------------------------------------------

    def _drop(self, *, keep: bool = False) -> None:
        """Lets go of the working file without writing to it again; removes it unless `keep`."""
        self._over = True
        self._held, self._waiting = None, []
        self._file.close()  # a closed file keeps PyAV from writing the trailer
        with contextlib.suppress(OSError, av.FFmpegError, ValueError):
            self._container.close()
        if not keep:
            self._file.path.unlink(missing_ok=True)

    def _keep(self) -> str | None:
        """Gives the working file its partial name if it plays, else removes it."""
        work = self._file.path
        if self._plan.format in ("mp4", "mov"):
            _cut_to_whole_fragments(work)
        length = _playing_time(work)
        if not length:
            work.unlink(missing_ok=True)
            return None
        info = self._plan.info
        # The first picture's own time counts: muxers move a film by some milliseconds so that nothing lies before 0.
        begun = (self._first or 0) * self._plan.video.time_base + info.origin - info.clock_start
        self._resume_at = round(float(begun + length), 3)
        partial = self._plan.target.partial
        work.replace(partial)
        return str(partial)

    def _failed(self, error: Exception) -> OutputError:
        cause = self._file.fault or error
        written = self._file.size
        self._drop(keep=True)
        self._partial = self._keep()
        what = full(cause)
        if what is None:
            what = f"writing failed ({' '.join(str(getattr(cause, 'strerror', None) or cause).split())})"
            advice = ""
        else:
            length = self._plan.info.duration_s
            what += f" after {written / 1e6:.1f} MB"
            if length and self._written_s > 0.1:
                need = written * length / min(length, self._written_s)
                what += f" of about {max(need, written) / 1e6:.1f} MB"
            advice = "make room and "
        if self._partial:
            return OutputError(f"{self._plan.path}: {what}; what was done is {self._partial}, "
                               f"{advice}go on with --start {self._resume_at:.3f}")
        return OutputError(f"{self._plan.path}: {what}; nothing was left" + (", make room first" if advice else ""))


def _fresh(metadata: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in metadata.items()
            if k.lower() not in _STALE and not k.upper().startswith("_STATISTICS")}


def _cover_name(codec: str) -> tuple[str, str]:
    return {"png": ("cover.png", "image/png"), "bmp": ("cover.bmp", "image/bmp"),
            "webp": ("cover.webp", "image/webp")}.get(codec, ("cover.jpg", "image/jpeg"))


def _playing_time(path: Path) -> Fraction | None:
    """Seconds from a film's first picture to the end of its last, None when its first cannot be decoded."""
    try:
        with av.open(f"file:{path}") as container:
            if next(container.decode(video=0), None) is None:
                return None
        with av.open(f"file:{path}") as container:
            stream = container.streams.video[0]
            base = stream.time_base or Fraction(1)
            step = max(1, round(1 / (rate_of(stream)[0] * base)))  # for containers that note no durations
            times = [(p.pts, p.pts + (p.duration or step)) for p in container.demux(stream) if p.pts is not None]
            return (max(end for _, end in times) - min(start for start, _ in times)) * base if times else None
    except (av.FFmpegError, OSError, IndexError):
        return None


def _cut_to_whole_fragments(path: Path) -> None:
    """Cuts a fragmented MP4 behind its last whole fragment, where it has one."""
    size, at, whole = path.stat().st_size, 0, 0
    with path.open("rb+") as file:
        for kind, length in boxes(file):
            at += length
            if at <= size and kind == b"mdat":
                whole = at
        if at > size and whole:
            file.truncate(whole)
