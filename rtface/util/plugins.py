"""Registers extensions: engine backends, trackers, sources, sinks, stages, engines, farms and commands.

One table has rtface's extensions; other distributions register theirs as entry points. An entry refers to an attribute
of a module, which is imported when the extension is used, not when it is looked up. docs/extending.md has an example of
each kind.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rtface._version import __version__
from rtface.errors import MissingComponent, reason

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS = {
    "backend": "rtface.backends",
    "tracker": "rtface.trackers",
    "source": "rtface.sources",
    "sink": "rtface.sinks",
    "stage": "rtface.stages",
    "engine": "rtface.engines",
    "farm": "rtface.farms",
    "command": "rtface.commands",
}
"""Kind of extension → group of its entry points."""

_BACKENDS = "rtface.engine.backends.choose"
_TRACKERS = "rtface.tracking"
_SOURCE = "rtface.live.sources.open_source:open_live_source"
_SINKS = "rtface.live.sinks"
# The options' documentation lists these names: update it with `python -m tests.docs.option_tables`.
BUILT_IN: dict[str, dict[str, tuple[str, str]]] = {
    "backend": {
        name: (f"{_BACKENDS}:{factory}", f"{_BACKENDS}:why_unusable")
        for name, factory in (
            ("cpu", "cpu_backend"),
            ("cuda", "cuda_backend"),
            ("openvino:gpu", "openvino_backend"),
            ("openvino:npu", "openvino_backend"),
            ("onnx", "onnx_backend"),
        )
    },
    "tracker": {
        "openvino": (f"{_TRACKERS}:openvino_tracker", ""),
        "none": (f"{_TRACKERS}:NoTracker", ""),
    },
    "source": {
        "camera": (_SOURCE, ""),
        "stream": (_SOURCE, ""),
        "file": (_SOURCE, ""),
    },
    "sink": {
        "vcam": (f"{_SINKS}.virtual_camera:VirtualCamera", ""),
        "null": (f"{_SINKS}.null_sink:NullSink", ""),
        "stream": (f"{_SINKS}.stream_sink:StreamSink", ""),
        "file": (f"{_SINKS}.record_sink:RecordSink", ""),
    },
    # Stages and farms come from distributions in plugins/, engines from folders (`rtface.engine.listing`) and plugins;
    # rtface's own commands are in `rtface.cli.app`.
    "stage": {},
    "engine": {},
    "farm": {},
    "command": {},
}
"""Kind → name → (factory, check), each "module:attribute". The check is called with the name and returns why the
extension cannot be used on this machine, or None; "" means the factory's own ``why_unusable``."""


@dataclass(frozen=True, slots=True)
class Extension:
    """One line of ``rtface plugins``.

    Attributes:
        kind: a key of `GROUPS`.
        name: its name in options.
        distribution, version: its package.
        unusable: why it cannot be used on this machine, or None.
    """

    kind: str
    name: str
    distribution: str
    version: str
    unusable: str | None


def installed(kind: str) -> dict[str, EntryPoint]:
    """Returns extensions of other distributions by name, without importing them. If two have the same name, the first
    on the path is used."""
    from importlib.metadata import entry_points  # takes 30 ms

    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUPS[kind]):
        points.setdefault(point.name, point)
    return dict(sorted(points.items()))


def names(kind: str) -> tuple[str, ...]:
    """Returns the names of all extensions of a kind, rtface's own first."""
    return (*BUILT_IN[kind], *(name for name in installed(kind) if name not in BUILT_IN[kind]))


def exists(kind: str, name: str) -> bool:
    """Checks whether an extension exists. Reads entry points only if rtface itself has none of that name."""
    return name in BUILT_IN[kind] or name in installed(kind)


def load(kind: str, name: str) -> Any:
    """Loads the factory of an extension.

    Raises:
        KeyError: no extension has that name.
        MissingComponent: a plugin cannot be imported.
    """
    if name in BUILT_IN[kind]:
        return _attribute(BUILT_IN[kind][name][0])
    return load_point(kind, installed(kind)[name])


def load_point(kind: str, point: EntryPoint) -> Any:
    """Loads the object of an entry point. Raises MissingComponent."""
    try:
        importlib.invalidate_caches()
        return point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may do anything on import, even call sys.exit()
        owner = f" of {point.dist.name}" if point.dist else ""
        raise MissingComponent(
            "the {kind} {name}{owner} cannot be loaded from {point}: {why}",
            code="plugin_unusable",
            kind=kind,
            name=point.name,
            owner=owner,
            point=point.value,
            why=reason(error),
        ) from error


def extensions(*kinds: str) -> Iterator[Extension]:
    """Yields the extensions of `kinds` (default: all), and whether they are usable here.

    Imports them for this.
    """
    for kind in kinds or GROUPS:
        points = installed(kind)
        for name in names(kind):
            _, check = BUILT_IN[kind].get(name, ("", ""))
            why, fault = (_attribute(check)(name), None) if check else ask(kind, name, "why_unusable")
            dist = None if name in BUILT_IN[kind] else points[name].dist
            package = (dist.name, dist.version) if dist else ("rtface", __version__)
            yield Extension(kind, name, *package, fault or why)


def ask(kind: str, name: str, question: str) -> tuple[Any, str | None]:
    """Calls a function of an extension's factory, without arguments.

    Returns:
        The function's result (None if there is no such function), and why the call failed (None if it did not).
    """
    try:
        factory = load(kind, name)
        if kind == "stage":  # raises if the stage does not support this version of the interface
            _attribute("rtface.stages.entry_points:check_version")(name, factory)
        answer = getattr(factory, question, lambda: None)()
        return (tuple(answer) if isinstance(answer, Iterator) else answer), None
    except Exception as error:  # noqa: BLE001 - the fault is part of the result
        return None, str(error) or reason(error)


def _attribute(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
