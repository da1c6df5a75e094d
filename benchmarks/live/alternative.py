"""The obvious alternative, as popular tools do it: one loop of OpenCV capture, per-frame restoration, virtual camera.

    python -m benchmarks.live.alternative URL TIMES COUNT SECONDS ENGINE

Each frame as BGR: faces detected again (YuNet on the whole frame), the crop aligned by five points, restored by the
same network that rtface uses (without its memory), warped back and blended over the whole frame with a feathered
mask, converted to I420 as pyvirtualcam does it, then a wait for the next tick of 30 frames a second. Prints one line of
JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common import quantiles
from benchmarks.live.sender import Times, number_of
from rtface.engine.engine_set import load_engine
from rtface.frame import Face
from rtface.geometry.alignment import crop_matrix
from rtface.tracking import models


class Alternative:
    """Detector, engine and mask of the loop."""

    def __init__(self, engine: str, width: int, height: int) -> None:
        self._engine = load_engine(engine)
        size = self._engine.size
        model = models.path("face_detection_yunet_2023mar.onnx")
        self._detector = cv2.FaceDetectorYN.create(str(model), "", (width, height), 0.7)
        mask = np.zeros((size, size), np.float32)
        cv2.ellipse(mask, (size // 2, size // 2), (int(size * 0.36), int(size * 0.45)), 0, 0, 360, 1, -1)
        self._mask = cv2.GaussianBlur(mask, (0, 0), size / 24)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """The frame with every face restored; BGR uint8 h×w×3."""
        height, width = frame.shape[:2]
        _, faces = self._detector.detect(frame)
        for found in () if faces is None else faces:
            points = found[4:14].reshape(5, 2).astype(np.float64)
            face = Face(1, np.array([*found[:2], *(found[:2] + found[2:4])], np.float64), points)
            size = self._engine.size
            matrix = crop_matrix(face, size)
            crop = cv2.warpAffine(frame, matrix, (size, size), flags=cv2.INTER_AREA)
            pixels = np.ascontiguousarray(crop[..., ::-1].transpose(2, 0, 1)[None], np.float32) / 255
            restored = self._engine.submit(pixels).result().pixels[0].transpose(1, 2, 0)[..., ::-1] * 255
            back = cv2.invertAffineTransform(matrix)
            whole = cv2.warpAffine(np.ascontiguousarray(restored), back, (width, height))
            mask = cv2.warpAffine(self._mask, back, (width, height))[..., None]
            frame = np.clip(frame * (1 - mask) + whole * mask, 0, 255).astype(np.uint8)
        return frame


def main() -> None:
    """See the module."""
    url, times, count, seconds, engine = sys.argv[1:6]
    due = Times(Path(times), int(count))
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    restore = Alternative(engine, width, height)
    began, cpu = time.monotonic(), time.process_time()
    tick, latencies, numbers = began, [], []
    while time.monotonic() - began < float(seconds):
        there, frame = capture.read()
        if not there:
            break
        number = number_of(frame[..., 1])
        frame = restore(frame)
        cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)
        if number is not None:
            latencies.append(due.latency(number, time.monotonic()))
            numbers.append(number)
        tick = max(tick + 1 / 30, time.monotonic() - 1 / 30)  # pyvirtualcam's sleep_until_next_frame
        if (wait := tick - time.monotonic()) > 0:
            time.sleep(wait)
    spent = time.monotonic() - began
    print(
        json.dumps(
            {
                "fps": round(len(latencies) / spent, 2),
                "latency_ms": quantiles(latencies),
                "cpu_percent": round(100 * (time.process_time() - cpu) / spent),
                "latency_first_and_last_ms": [
                    round(1e3 * float(np.median(part)), 1) for part in (latencies[30:90], latencies[-60:])
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
