"""The run time's face mesh and detector as ONNX, for GPUs: ``python -m training.export.tracker_networks``.

OpenVINO reads the mesh's original file; its operations, a dozen kinds, are written down one by one. The detector is
ONNX already; its sizes are set. Also makes the golden
answers by which a tracker's networks are judged on other devices (`rtface.tracking.golden`). Needs ``onnx``,
``onnxruntime`` and ``scikit-image``; prints how far ONNX Runtime is from OpenVINO.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

from rtface.tracking import models
from rtface.tracking.detector import Detector
from rtface.tracking.facemesh import SIZE, FaceMesh, Region
from rtface.tracking.golden import FILE, detector_image, mesh_image
from rtface.tracking.network import TrackerNetwork

SOURCE, MADE = "face_landmarks_detector.tflite", "face_landmarks_detector.onnx"
YUNET, YUNET_384 = "face_detection_yunet_2023mar.onnx", "face_detection_yunet_384.onnx"
OUTPUTS = ("points", "presence")
"""The first two answers of the original; nothing uses the third."""
FACE = Region(224.8, 128.6, 141.8, 0.0944)
"""Where MediaPipe's own detector sees the astronaut's face."""
OPSET = 17


def _constants(model: Any) -> dict[str, np.ndarray]:
    """What is constant, by name, in the precision that it is stored in."""
    found: dict[str, np.ndarray] = {}
    for node in model.get_ordered_ops():
        kind, name = node.get_type_name(), node.get_friendly_name()
        sources = [node.input_value(i).get_node().get_friendly_name() for i in range(node.get_input_size())]
        if kind == "Constant":
            found[name] = np.array(node.get_data())
        elif sources and all(s in found for s in sources):
            first, *rest = (found[s] for s in sources)
            if kind == "Convert":
                found[name] = first
            elif kind == "Unsqueeze":
                found[name] = np.expand_dims(first, tuple(int(a) for a in np.ravel(rest[0])))
            elif kind == "Transpose":
                found[name] = np.transpose(first, np.ravel(rest[0]).astype(int))
            elif kind == "Reshape":
                found[name] = np.reshape(first, node.get_output_shape(0))
            else:
                raise ValueError(f"the face mesh holds a constant made by {kind}")
    return found


class _Writer:
    """Nodes and weights of an ONNX graph, as they come."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._casts: set[str] = set()

    def constant(self, name: str, value: np.ndarray) -> str:
        """Weights stay stored in half precision, and are cast by the graph."""
        if name in self._casts:
            return name
        self._casts.add(name)
        half = value.dtype == np.float16
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), f"{name}.half" if half else name))
        if half:
            self.nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], f"{name}/cast", to=TensorProto.FLOAT))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], f"{output}/{kind}", **attributes))


def _write(to: _Writer, node: Any, names: list[str], values: list[np.ndarray | None]) -> None:
    kind, name, how = node.get_type_name(), node.get_friendly_name(), node.get_attributes()

    def fixed(i: int, change: Any = lambda v: v) -> str:
        value = values[i]
        return names[i] if value is None else to.constant(f"{name}.{i}", change(value))

    if kind in ("Convolution", "GroupConvolution"):
        groups = node.input_value(1).get_shape()[0] if kind == "GroupConvolution" else 1
        weight = fixed(1, lambda v: v.reshape(-1, *v.shape[2:]) if kind == "GroupConvolution" else v)
        to.add(
            "Conv",
            [names[0], weight],
            name,
            group=groups,
            strides=how["strides"],
            dilations=how["dilations"],
            pads=[*how["pads_begin"], *how["pads_end"]],
        )
    elif kind == "MaxPool":
        to.add(
            "MaxPool",
            [names[0]],
            name,
            kernel_shape=how["kernel"],
            strides=how["strides"],
            pads=[*how["pads_begin"], *how["pads_end"]],
        )
    elif kind == "PRelu":
        to.add("PRelu", [names[0], fixed(1, lambda v: v.reshape(v.shape[-3:]) if v.ndim == 4 else v)], name)
    elif kind == "Add":
        to.add("Add", [names[0], fixed(1)], name)
    elif kind == "Transpose":
        to.add("Transpose", [names[0]], name, perm=[int(a) for a in np.ravel(values[1])])
    elif kind == "Reshape":
        to.add("Reshape", [names[0], to.constant(f"{name}.shape", np.array(node.get_output_shape(0), np.int64))], name)
    elif kind == "Pad":
        ends = np.concatenate([np.ravel(values[1]), np.ravel(values[2])]).astype(np.int64)
        to.add("Pad", [names[0], to.constant(f"{name}.pads", ends)], name, mode="constant")
    elif kind == "Sigmoid":
        to.add("Sigmoid", [names[0]], name)
    else:
        raise ValueError(f"the face mesh holds an operation that is not known here: {kind}")


def convert(source: Path) -> onnx.ModelProto:
    """The mesh: ``picture`` 1×256×256×3 RGB of 0…1 → ``points`` 1×1434 in its pixels, ``presence`` 1×1 (a logit)."""
    model: Any = ov.Core().read_model(source)
    model.reshape([1, SIZE, SIZE, 3])
    to, names, reached, constants = _Writer(), dict[str, str](), set[str](), _constants(model)
    results = [model.outputs[i].get_node().input_value(0).get_node() for i in range(len(OUTPUTS))]
    todo = list(results)
    while todo:  # what the answers are made of
        node = todo.pop()
        if node.get_friendly_name() not in reached:
            reached.add(node.get_friendly_name())
            todo += [node.input_value(i).get_node() for i in range(node.get_input_size())]
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        if name not in reached or node.get_type_name() == "Result":
            continue
        if node.get_type_name() == "Parameter":
            names[name] = "picture"
            continue
        if name in constants:
            continue
        sources = [node.input_value(i).get_node().get_friendly_name() for i in range(node.get_input_size())]
        _write(to, node, [names.get(n, "") for n in sources], [constants.get(n) for n in sources])
        names[name] = name
    for output, node in zip(OUTPUTS, results, strict=True):
        flat = to.constant(f"{output}.shape", np.array([1, -1], np.int64))
        to.add("Reshape", [names[node.get_friendly_name()], flat], output)
    sizes = {"points": 1434, "presence": 1}
    graph = helper.make_graph(
        to.nodes,
        "face_mesh",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, sizes[name]]) for name in OUTPUTS],
        to.weights,
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,
        producer_name="rtface",
        doc_string="MediaPipe Face Mesh, Apache-2.0",
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def resized(source: Path) -> onnx.ModelProto:
    """YuNet for pictures of 384 pixels; the file's own sizes are 640's."""
    model = onnx.load(source)
    shapes = {name: (1, *shape) for name, shape in models.yunet_outputs().items()} | {"input": (1, 3, 384, 384)}
    for value in (*model.graph.input, *model.graph.output):
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            dim.dim_value = size
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Writes the files where they ship."""
    from skimage import data

    folder = Path(models.__file__).parent
    made = convert(folder / SOURCE)
    (folder / MADE).write_bytes(made.SerializeToString())
    (folder / YUNET_384).write_bytes(resized(folder / YUNET).SerializeToString())
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    mesh = FaceMesh()
    detector = Detector(network=TrackerNetwork(YUNET, 384, 1, layout="NCHW", bgr=True))  # in float32
    picture = cv2.warpAffine(data.astronaut(), _cv2(FACE.matrix(SIZE // 2)), (SIZE // 2, SIZE // 2))
    models.SHA256[FILE] = _written(folder / FILE, picture=picture)
    rng, worst = np.random.default_rng(0), 0.0
    for pixels in (mesh_image(), *(rng.integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8))):
        points, presence = session.run(list(OUTPUTS), {"picture": pixels[None].astype(np.float32) / 255})
        theirs = [o.copy() for o in mesh.network(pixels)]
        worst = max(
            worst,
            float(np.abs(points.ravel() - theirs[0].ravel()).max()),
            float(np.abs(presence.ravel() - theirs[1].ravel()).max()),
        )
    points, score = mesh.infer(mesh_image())
    (found,) = detector.detect(detector_image(), 0.5)
    _written(
        folder / FILE,
        picture=picture,
        mesh=points.astype(np.float32),
        mesh_score=score,
        box=found.box,
        points=found.points,
        score=found.score,
    )
    print(f"ONNX Runtime is {worst:.2e} from OpenVINO; mesh {score:.3f}, detector {found.score:.3f}")
    for name in (MADE, YUNET_384, FILE):
        print(f'    "{name}": "{hashlib.sha256((folder / name).read_bytes()).hexdigest()}",')


def _written(path: Path, **arrays: Any) -> str:
    np.savez_compressed(path, **arrays)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _cv2(matrix: np.ndarray) -> np.ndarray:
    """The same map between sample centres."""
    out = matrix.copy()
    out[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return out


if __name__ == "__main__":
    main()
