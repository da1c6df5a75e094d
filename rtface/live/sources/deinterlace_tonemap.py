"""Deinterlaces frames and tone-maps HDR, because live outputs support neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import av
from av.filter import Graph

from rtface.frame import Transfer
from rtface.geometry.color_curves import engine_curve
from rtface.media.read.frame_details import filter_for

INTERLACED = "the source is interlaced: its frames are deinterlaced"
HDR = "the source is HDR: its frames are tone-mapped to SDR (BT.709)"
_HDR: dict[int, Transfer] = {16: "pq", 18: "hlg"}
_BT709, _LIMITED, _BT2020 = 1, 1, 9
_BWDIF = {"mode": "send_frame", "deint": "interlaced"}
_MATRIX_2020 = (9, 10)
# `rtface.geometry.color_curves.engine_curve` as FFmpeg expressions for code values of R'G'B', evaluated once into a
# table. The first part stores light in register 0, in units of the reference white.
_ROLL_OFF = "maxval*pow(if(lte(ld(0),0.75),ld(0),0.75+0.25*(1-exp((0.75-ld(0))/0.25))),1/2.2)"
_CURVES: dict[Transfer, str] = {
    "pq": (
        "st(1,pow(clipval/maxval,1/78.84375));"
        "st(0,10000/203*pow(max(ld(1)-0.8359375,0)/(18.8515625-18.6875*ld(1)),1/0.1593017578125));" + _ROLL_OFF
    ),
    "hlg": (
        "st(1,clipval/maxval);st(1,if(lte(ld(1),0.5),ld(1)*ld(1)/3,"
        "(exp((ld(1)-0.55991073)/0.17883277)+0.28466892)/12));st(0,1000/203*pow(ld(1),1.2));" + _ROLL_OFF
    ),
}


class DeinterlaceToneMap:
    """Deinterlaces and tone-maps frames that need it. Other frames pass unchanged.

    FFmpeg's bwdif deinterlaces each frame to one frame. It needs the next frame, which adds a delay of one frame. HDR
    (PQ, HLG) is mapped by the curve of `rtface.geometry.color_curves.engine_curve`: light up to three quarters of
    BT.2408's reference white is unchanged, and brighter light is rolled off towards white.
    """

    def __init__(self) -> None:
        self._graphs: dict[str, Graph | None] = {}  # None if FFmpeg cannot create the graph: frames pass unchanged
        self._properties: tuple[object, ...] = ()
        self.notes: list[str] = []

    def __call__(self, image: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Yields the progressive SDR frames for a decoded frame: one, or none yet. Frames keep their timestamps."""
        properties = (image.width, image.height, image.format.name, int(image.color_trc), int(image.color_range))
        if properties != self._properties:
            self._properties = properties
            self._graphs.clear()
        for note, needed in ((HDR, int(image.color_trc) in _HDR), (INTERLACED, image.interlaced_frame)):
            if needed and note not in self._graphs:
                self._add_graph(note, image)
        deinterlacer, tone_mapper = self._graphs.get(INTERLACED), self._graphs.get(HDR)
        for progressive in [image] if deinterlacer is None else _filtered_frames(deinterlacer, image):
            yield from [progressive] if tone_mapper is None else _tone_mapped_frames(tone_mapper, progressive)

    def _add_graph(self, note: str, image: av.VideoFrame) -> None:
        self._graphs[note] = None
        with suppress(av.FFmpegError, ValueError):
            self._graphs[note] = _tone_mapper(image) if note == HDR else filter_for(image, "bwdif", **_BWDIF)
            if note not in self.notes:
                self.notes.append(note)


def _filtered_frames(graph: Graph, image: av.VideoFrame) -> Iterator[av.VideoFrame]:
    graph.push(image)
    with suppress(av.BlockingIOError, av.EOFError):
        while True:
            out = graph.pull()
            assert isinstance(out, av.VideoFrame)
            yield out


def _tone_mapped_frames(graph: Graph, image: av.VideoFrame) -> Iterator[av.VideoFrame]:
    for out in _filtered_frames(graph, image):
        out.colorspace, out.color_range, out.color_primaries, out.color_trc = _BT709, _LIMITED, _BT709, _BT709
        yield out


def _tone_mapper(image: av.VideoFrame) -> Graph:
    graph = Graph()
    matrix = "bt2020" if int(image.colorspace) in _MATRIX_2020 else "bt709"
    curve = _CURVES[_HDR[int(image.color_trc)]]
    steps = [
        graph.add(
            "scale",
            in_color_matrix=matrix,
            in_range="full" if int(image.color_range) == 2 else "limited",
            out_range="full",
            flags="fast_bilinear",
        ),
        graph.add("format", "gbrp10le"),
        graph.add("lutrgb", r=curve, g=curve, b=curve),
    ]
    gamut = engine_curve("sdr", int(image.color_primaries) == _BT2020)
    if gamut is not None and gamut.gamut is not None:
        steps.append(
            graph.add(
                "colorchannelmixer",
                **{
                    out + into: f"{gamut.gamut[i, j]:.5f}"
                    for i, out in enumerate("rgb")
                    for j, into in enumerate("rgb")
                },
            )
        )
    steps += [
        graph.add("scale", out_color_matrix="bt709", out_range="limited", flags="fast_bilinear"),
        graph.add("format", "yuv420p"),
    ]
    source = graph.add_buffer(width=image.width, height=image.height, format=image.format, time_base=image.time_base)
    graph.link_nodes(source, *steps, graph.add("buffersink")).configure()
    return graph
