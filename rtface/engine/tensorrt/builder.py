"""Builds a serialised TensorRT plan from a recipe."""

from __future__ import annotations

import io
from typing import Any

from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.engine.tensorrt.library import Capability, Library, fault, logger, sm
from rtface.errors import EngineError, MissingComponent, log
from rtface.util.install import extra_line

REVISION = 1
"""Revision of this module and of `network`. Plans of another revision are built again."""

_WORKSPACE_BYTES = 8 << 30
"""Memory that one operation of the network, or fused group of operations, may use besides its tensors. At 512 pixels
and batch 16, GFPGAN needs 1.2 GB and RestoreFormer 4.4 GB; with less, the build fails."""


def profile(recipe: Recipe) -> str:
    """Describes how a plan is prepared, for its identity. Omits the precision."""
    batch = recipe.batch
    return f"batch {batch.min}-{min(batch.opt, batch.max)}-{batch.max}, preparation {REVISION}"


def prepare(recipe: Recipe, precision: Precision) -> Any:
    """Loads the engine's network as ONNX and converts it to `precision`.

    Raises EngineError if the network cannot be read or converted, MissingComponent without the ``onnx`` package.
    """
    try:
        import onnx

        from rtface.engine.tensorrt.network import typed
    except ImportError as error:
        raise MissingComponent(
            "building a plan for TensorRT needs the onnx package; get it with: {repair}",
            code="onnx_package",
            repair=extra_line("rtx"),
        ) from error
    try:
        network = recipe.network
        return typed(
            onnx.load(io.BytesIO(network) if isinstance(network, bytes) else str(network)),
            precision,
            recipe.precision.fp32_nodes,
        )
    except Exception as error:  # the only common base of errors of protobuf, checker, shape inference and rtface
        raise EngineError(
            "engine {name}: TensorRT cannot use {file}: {why}",
            code="tensorrt_load",
            name=recipe.name,
            file=recipe.model_path.name,
            why=(str(error).strip().splitlines() or [type(error).__name__])[-1],
        ) from error


def build(recipe: Recipe, precision: Precision, library: Library, capability: Capability) -> bytes:
    """Builds a serialised plan. Raises EngineError if the library rejects the network."""
    trt = library.module
    log.info("building a plan of %s for %s, which may take minutes", recipe.name, sm(capability))
    failure = f"engine {recipe.name}: {library.name} cannot build the network in {precision} for {sm(capability)}"
    logger(library).faults.clear()
    builder: Any = trt.Builder(logger(library))
    network = builder.create_network(0)  # strongly typed, like all networks of these libraries
    parser: Any = trt.OnnxParser(network, logger(library))
    if not parser.parse(prepare(recipe, precision).SerializeToString()):
        raise EngineError(
            "{what}: {why}",
            code="onnx_parse",
            what=failure,
            why=_error_text(parser.get_error(0)) if parser.num_errors else fault(library),
        )
    config: Any = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 must stay fp32
    config.max_aux_streams = 0  # so that everything runs on the given stream, and in the graph captured from it
    config.add_optimization_profile(_profile(recipe, builder, network))
    if library.kind == "rtx":
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # required to capture graphs
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm(capability)[3:]}"), 0)
    blob = builder.build_serialized_network(network, config)
    if blob is None:
        raise EngineError("{what}: {why}", code="tensorrt_fault", what=failure, why=fault(library))
    return bytes(blob)


def _error_text(error: Any) -> str:
    """Returns text such as "GridSample /carry/GridSample: unsupported node (mode)"."""
    why = f"{error.code().name.lower().replace('_', ' ')} ({error.desc()})"
    return " ".join(f"{error.node_operator()} {error.node_name()}: {why}".split())


def _profile(recipe: Recipe, builder: Any, network: Any) -> Any:
    """Checks a network's ports against the recipe and returns its optimisation profile."""
    batch = recipe.batch
    inputs = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    outputs = {network.get_output(i).name: network.get_output(i) for i in range(network.num_outputs)}
    for ports, tensors, side in ((recipe.inputs, inputs, "input"), (recipe.outputs, outputs, "output")):
        for name, shape in ports.items():
            first, *rest = tensors[name].shape if name in tensors else (0,)
            # An output's size may be dynamic until the network runs.
            fits = len(rest) == len(shape) and all(a in (-1, b) for a, b in zip(rest, shape, strict=True))
            if not fits or (first != -1 and (first, first) != (batch.min, batch.max)):
                raise EngineError(
                    "engine {name}: the network's {side} {port} is {found}, not {wanted} for {least} to {most} crops",
                    code="network_port_shape",
                    name=recipe.name,
                    side=side,
                    port=name,
                    found=(first, *rest) if rest else "missing",
                    wanted=shape,
                    least=batch.min,
                    most=batch.max,
                )
    for name in outputs.keys() - recipe.outputs.keys():
        network.unmark_output(outputs[name])
    shapes = builder.create_optimization_profile()
    for name, shape in recipe.inputs.items():
        shapes.set_shape(name, (batch.min, *shape), (min(batch.opt, batch.max), *shape), (batch.max, *shape))
    return shapes
