"""Adds an engine from an offer or a file: ``rtface engines add``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rtface.engine.host_engine import HostEngine
from rtface.engine.recipe import Recipe, load_recipe
from rtface.engine.recipe_tables import Licence, SourceFile
from rtface.errors import DownloadError, EngineError, InputError, OutputError, UsageError, log
from rtface.redaction import shown
from rtface.util.file_lock import file_lock
from rtface.util.paths import cache_dir
from rtface.util.spelling import hint
from rtface.util.toml_dataclass import from_table
from rtface_engines import environment, licence
from rtface_engines.catalogue import Offer, find_offers, offer_named
from rtface_engines.checkpoint import read_contents
from rtface_engines.convert import ConversionResult, convert
from rtface_engines.download import PublishedFile, digest, download
from rtface_engines.environment import SetupOutput
from rtface_engines.folder import build_folder, check_name, check_space, engines_folder, exists, move_in, to_toml
from rtface_engines.generic_onnx import GenericNetwork, inspect, write_golden
from rtface_engines.identify import check, quote_path, recognise

_DISK_FACTOR = 2.0  # disk space that a conversion needs, relative to the weights file

Accept = Callable[[list[str]], str | None]
"""Shows the lines of a licence and asks. Returns how the licence was accepted; None if it was not."""


@dataclass(frozen=True, slots=True)
class AddRequest:
    """A request to add an engine.

    Attributes:
        name: name of the offer, or a new name for an ONNX file. If None, the offer is recognised from `file`.
        file: weights file. If None, the published file is downloaded.
        url: address to download from instead of the published one.
        python: Python interpreter to convert with.
        overwrite: True to replace an existing engine of that name.
        commercial_use: True to reject engines that forbid commercial use.
        threads: number of CPU threads for the check; None for all.
    """

    name: str | None = None
    file: Path | None = None
    url: str | None = None
    python: Path | None = None
    overwrite: bool = False
    commercial_use: bool = False
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class AddCallbacks:
    """Callbacks to the user interface. `progress` is called with a step's name and its completed share (0…1), `fetched`
    with the number of bytes received, and the total (None if unknown)."""

    output: SetupOutput
    progress: Callable[[str, float], None]
    fetched: Callable[[int, int | None], None]
    accept: Accept


@dataclass(frozen=True, slots=True)
class AddResult:
    """An added engine and how it runs on this machine. For ONNX files, `onnx_error` is None."""

    name: str
    folder: Path
    device: str
    backend: str
    precision: str
    psnr: float
    required: float
    ms: float
    sha256: str
    onnx_error: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns all attributes as a table."""
        return asdict(self) | {"folder": str(self.folder)}


def add(request: AddRequest, ui: AddCallbacks) -> AddResult:
    """Adds an engine. On failure, nothing changes.

    Raises:
        UsageError: the offer does not exist, the engine exists already, or its licence was not accepted.
        InputError: the file is damaged, or contains the weights of another network.
        DownloadError, OutputError, MissingComponent: see `download`, `folder` and `environment`.
        EngineError: the engine cannot be converted, or fails its golden gate on this machine.
    """
    offers = find_offers()
    if request.name is not None:
        check_name(request.name)
    if request.file is None:
        if request.name is None:
            raise UsageError(
                "give the name of an engine that 'rtface engines offers' lists, or a file with --from FILE",
                code="add_what",
            )
        return _add_download(offer_named(request.name, offers), request, ui, offers)
    if request.url is not None:
        raise UsageError("--from and --url cannot be combined: give either a file or an address", code="add_from_url")
    if request.file.suffix.lower() == ".onnx":
        return _add_onnx(request.file, request, ui, offers)
    contents, sha256 = read_contents(request.file), digest(request.file)
    if request.name is None:
        offer = recognise(request.file, contents, sha256, offers.values())
        ui.output.log(f"{request.file} contains the weights of {offer.name}")
    else:
        offer = offer_named(request.name, offers)
        check(request.file, contents, offer, offers)
    if offer.published.sha256 not in (None, sha256):
        log.warning(
            "%s is not the published %s (SHA-256 %s…); this is expected if you have trained it yourself",
            request.file,
            offer.published.file,
            sha256[:12],
        )
    source = SourceFile(request.file.name, request.file.stat().st_size, sha256)
    with _workspace(offer.name, offer.table.licence, request, ui) as workspace:
        return _add_converted(offer, request.file, source, workspace, request, ui)


@dataclass(frozen=True, slots=True)
class _Workspace:
    """A folder to build in, and how the licence was accepted."""

    folder: Path
    accepted: str


@contextmanager
def _workspace(name: str, terms: Licence, request: AddRequest, ui: AddCallbacks) -> Generator[_Workspace]:
    """Yields a workspace to build an engine and locks the engine's name. Raises UsageError if the licence is not
    accepted or not allowed, or if the engine exists already. Raises OutputError if the folder cannot be written."""
    if request.commercial_use and not terms.commercial_use:
        raise UsageError(
            "{name} may not be used commercially ({licence}), and commercial-use is on",
            code="add_commercial",
            name=name,
            licence=terms.shown,
        )
    _check_absent(name, request)
    acceptance = ui.accept(licence.format_lines(name, terms))
    if acceptance is None:
        raise UsageError(
            "the licence of {name} was not accepted, so nothing was added; without a terminal, --accept-license "
            "accepts it",
            code="add_licence",
            name=name,
        )
    with file_lock(
        cache_dir() / "downloads" / f"{name}.lock",
        lambda: ui.output.log(f"another rtface is downloading or converting {name}; waiting for it"),
    ):
        _check_absent(name, request)  # another process may have added it in the meantime
        with build_folder(name) as folder:
            yield _Workspace(folder, acceptance)


def _check_absent(name: str, request: AddRequest) -> None:
    if exists(name) and not request.overwrite:
        raise UsageError(
            "engine {name} already exists, in {path}; {--overwrite=True} replaces it",
            code="add_exists",
            name=name,
            path=engines_folder() / name,
        )


def _add_download(offer: Offer, request: AddRequest, ui: AddCallbacks, offers: Mapping[str, Offer]) -> AddResult:
    published = offer.published
    url = request.url or published.url
    if url is None:
        raise UsageError(
            "{name} cannot be downloaded by rtface; get {file} from its publisher and add it with: rtface engines add "
            "{name} --from FILE",
            code="add_fetch",
            name=offer.name,
            file=published.file or "its weights",
        )
    with _workspace(offer.name, offer.table.licence, request, ui) as workspace:
        return _add_from_url(url, offer, workspace, request, ui, offers)


def _add_from_url(
    url: str, offer: Offer, workspace: _Workspace, request: AddRequest, ui: AddCallbacks, offers: Mapping[str, Offer]
) -> AddResult:
    published = offer.published
    sha256 = published.sha256 or _recorded_sha256(offer.name)
    name = Path(urlsplit(url).path).name if request.url and not published.file else published.file
    target = cache_dir() / "downloads" / offer.name / (name or "weights")
    ui.output.log(f"downloading {shown(url)}")
    if urlsplit(url).scheme == "http" and sha256 is None:
        log.warning("%s is not encrypted and has no published SHA-256: it could be changed in transit", shown(url))
    try:
        file = download(PublishedFile(url, published.bytes, sha256), target, ui.fetched)
    except DownloadError:
        raise
    except OSError as error:
        raise OutputError(
            "{path} cannot be written ({why}); set RTFACE_CACHE to another folder",
            code="cache_unwritable",
            path=target,
            why=error.strerror,
        ) from error
    pinned = sha256 or digest(file)
    if sha256 is None:
        ui.output.log(f"the publisher gives no SHA-256; later downloads must have {pinned}")
    try:
        check(file, read_contents(file), offer, offers)
    except InputError:
        if file == target:  # so that the next attempt does not find the bad download
            target.unlink()
        raise
    added = _add_converted(
        offer, file, SourceFile(file.name, file.stat().st_size, pinned, shown(url)), workspace, request, ui
    )
    if file == target:  # the converted network replaces the download
        shutil.rmtree(target.parent, ignore_errors=True)
    return added


def _recorded_sha256(name: str) -> str | None:
    """Returns the SHA-256 of an earlier download of this engine, if any."""
    with suppress(EngineError):
        source = load_recipe(engines_folder() / name / "recipe.toml").source
        return source.sha256 if source is not None and source.url else None
    return None


def _add_converted(
    offer: Offer, weights: Path, source: SourceFile, workspace: _Workspace, request: AddRequest, ui: AddCallbacks
) -> AddResult:
    folder = workspace.folder
    check_space(folder, _DISK_FACTOR * source.bytes)
    converted = convert(offer, weights, folder, environment.find_python(request.python, ui.output), ui.progress)
    if converted.sha256 != digest(folder / "model.onnx"):
        raise EngineError(
            "{name} cannot be converted: the network was damaged while it was written to {path}",
            code="add_damaged",
            name=offer.name,
            path=folder,
        )
    return _finish(workspace, _table(offer, converted, source), offer.table.licence, converted, request, ui)


def _table(offer: Offer, converted: ConversionResult, source: SourceFile) -> dict[str, Any]:
    """Builds the recipe of a converted network."""
    table, published = offer.table, offer.published
    precision = replace(table.precision, fp32_nodes=converted.fp32_nodes)
    return _without_none(
        {
            "name": offer.name,
            "version": published.version,
            "summary": published.summary,
            "kind": "restorer",
            "family": table.architecture.family,
            "licence": asdict(table.licence),
            "weights": {
                "file": "model.onnx",
                "bytes": converted.bytes,
                "sha256": converted.sha256,
                "parameters": converted.parameters,
            },
            "input": asdict(table.input),
            "output": asdict(table.output),
            "alignment": asdict(table.alignment),
            "batch": asdict(table.batch),
            "precision": asdict(precision),
            "controls": asdict(table.controls),
            "golden": {"file": "golden.npz", "psnr": asdict(table.psnr)},
            "source": asdict(source),
        }
    )


def _without_none(value: Any) -> Any:
    """Drops None values, which TOML cannot express."""
    if not isinstance(value, dict):
        return value
    return {key: _without_none(inner) for key, inner in value.items() if inner is not None}


def _add_onnx(file: Path, request: AddRequest, ui: AddCallbacks, offers: Mapping[str, Offer]) -> AddResult:
    """Adds an ONNX file without conversion."""
    if request.name is None:
        raise UsageError(
            "an ONNX file does not tell which network it contains; give a name, as in: rtface engines add gfpgan-1.4 "
            "--from {file}",
            code="add_onnx_name",
            file=quote_path(file),
        )
    network, name = inspect(file), request.name
    offer = offer_named(name, offers) if name in offers else None
    terms = (
        offer.table.licence
        if offer
        else Licence(
            "unknown",
            "unknown",
            False,
            "unknown",
            ("rtface cannot know who published this network or what its terms allow: write both into its recipe.toml."),
        )
    )
    if offer is None:
        ui.output.log(f"rtface does not know an engine {name}{hint(name, offers)}; it is added as your own engine")
    source = SourceFile(file.name, file.stat().st_size, digest(file))
    with _workspace(name, terms, request, ui) as workspace:
        folder = workspace.folder
        check_space(folder, _DISK_FACTOR * source.bytes)
        network.write(folder / "model.onnx")
        table = _onnx_table(name, network, offer, terms, source, folder / "model.onnx")
        recipe = from_table(Recipe, table | {"folder": folder, "digest": "plain"}, "")
        ui.output.log(
            f"{name} is compiled, run on golden crops and checked in {recipe.precision.default}; this takes seconds, "
            "for a large network minutes"
        )
        ui.progress("computing golden crops", 0.0)
        write_golden(recipe, request.threads or 1)
        return _finish(workspace, table, terms, None, request, ui)


def _onnx_table(
    name: str, network: GenericNetwork, offer: Offer | None, terms: Licence, source: SourceFile, model: Path
) -> dict[str, Any]:
    ranges = (offer.table.input.range, offer.table.output.range) if offer else ((-1.0, 1.0), (-1.0, 1.0))
    controls: dict[str, Any] = {"strength": True}
    if network.control_name is not None:
        fidelity = offer.table.controls.fidelity if offer else None
        controls["fidelity"] = {"name": network.control_name, "default": fidelity.default if fidelity else 0.5}
    f32, bf16 = (offer.table.psnr.f32, offer.table.psnr.bf16) if offer else (55.0, 30.0)
    return _without_none(
        {
            "name": name,
            "version": offer.published.version if offer else "0",
            "summary": offer.published.summary if offer else f"from {source.file}",
            "kind": "restorer",
            "family": offer.table.architecture.family if offer else "CNN",
            "licence": asdict(terms),
            "weights": {
                "file": model.name,
                "bytes": model.stat().st_size,
                "sha256": digest(model),
                "parameters": network.parameters,
            },
            "input": {"name": network.input.name, "size": network.size, "range": list(ranges[0])},
            "output": {"name": network.output.name, "range": list(ranges[1])},
            "batch": {"min": 1, "opt": 1, "max": network.max_batch},
            # No fp16, because unknown nodes may need fp32. Without an offer, no bf16 either, because OpenVINO takes 15
            # minutes to compile some networks in bf16 (17×17 convolutions of single channels).
            "precision": {"default": "bf16" if offer else "f32", "fallback": "f32"},
            "controls": controls,
            "golden": {"file": "golden.npz", "psnr": {"f32": f32, "bf16": bf16}},
            "source": asdict(source),
        }
    )


def _finish(
    workspace: _Workspace,
    table: dict[str, Any],
    terms: Licence,
    converted: ConversionResult | None,
    request: AddRequest,
    ui: AddCallbacks,
) -> AddResult:
    """Completes an engine: writes record and recipe, checks and installs it."""
    folder = workspace.folder
    licence.record(folder, table["name"], terms, workspace.accepted)
    # The hash ties cached gate results to these golden crops, so that another conversion does not reuse the results.
    table = table | {"golden": table["golden"] | {"sha256": digest(folder / table["golden"]["file"])}}
    (folder / "recipe.toml").write_text(to_toml(table), encoding="utf-8")
    recipe = load_recipe(folder / "recipe.toml")
    ui.progress("checking it against its golden crops", 0.0)
    engine = HostEngine(recipe, threads=request.threads)  # runs the golden gate
    engine.close()
    folder = move_in(folder, recipe.name)
    required: float = getattr(recipe.golden.psnr, engine.precision)
    return AddResult(
        recipe.name,
        folder,
        engine.device,
        engine.backend,
        engine.precision,
        engine.psnr,
        required,
        engine.ms,
        recipe.weights.sha256,
        converted.onnx_error if converted else None,
    )
