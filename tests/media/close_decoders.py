"""Asks for the details of a frame, while decoders whose threads find faults are closed; ends by itself in seconds."""

from __future__ import annotations

import contextlib
import sys
import threading
import time

import av
from av.bitstream import BitStreamFilterContext

from rtface.media.read.frame_details import details_of

SECONDS = 3.0


def main(path: str) -> None:
    """Runs until the time is up."""
    with av.open(path) as film:
        frame = next(film.decode(video=0))
    end = time.monotonic() + SECONDS
    faults: list[BaseException] = []

    def ask() -> None:
        while time.monotonic() < end:
            if details_of(frame)[1] != "tff":
                faults.append(AssertionError("another order"))

    def decode(first: int) -> None:
        while time.monotonic() < end:
            with av.open(path) as film:
                [stream] = film.streams.video
                decoder = av.CodecContext.create("h264", "r")
                decoder.thread_type, decoder.thread_count = "FRAME", 4
                decoder.extradata = stream.codec_context.extradata
                damage = BitStreamFilterContext("noise=amount=-40", stream)
                for packet in list(film.demux(stream))[first : first + 9]:
                    if packet.size:
                        with contextlib.suppress(av.FFmpegError):
                            for damaged in damage.filter(packet):
                                decoder.decode(damaged)
                del decoder  # waits for its threads, with the interpreter lock

    threads = [
        threading.Thread(target=ask),
        threading.Thread(target=decode, args=(0,)),
        threading.Thread(target=decode, args=(3,)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


if __name__ == "__main__":
    main(sys.argv[1])
