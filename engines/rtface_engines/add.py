"""``rtface engines add``: from an offer's name or a file to an engine that has passed its golden gate."""

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
from rtface_engines.folder import check_name, check_room, engines_folder, is_there, making, move_in, to_toml
from rtface_engines.generic_onnx import GenericNetwork, inspect, write_golden
from rtface_engines.identify import as_typed, check, recognise

_ROOM = 2.0  # what converting takes on the disk, in sizes of the published file

Accept = Callable[[list[str]], str | None]
"""Shows the words of a licence and asks; how it was accepted, or None where it was not."""


@dataclass(frozen=True, slots=True)
class AddRequest:
    """What is to be added.

    Attributes:
        name: of an offer; None recognises `file`. For an ONNX file also a new name.
        file: the weights; None fetches them.
        url: from here instead of where they were published.
        python: to convert with.
        overwrite: replace an engine of that name.
        commercial_use: refuse what may not be used commercially.
        threads: CPU threads for the check; None for all.
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
    """Callbacks to the user: `tell` shows lines, `progress` what is done and how far (0…1), `fetched` how many
    bytes have come and of how many, `accept` asks about a licence."""

    output: SetupOutput
    progress: Callable[[str, float], None]
    fetched: Callable[[int, int | None], None]
    accept: Accept


@dataclass(frozen=True, slots=True)
class AddResult:
    """What was made: where it lies, how it runs here, and the converter's figure (None without one)."""

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
        """All attributes as a table."""
        return asdict(self) | {"folder": str(self.folder)}


def add(request: AddRequest, talk: AddCallbacks) -> AddResult:
    """Adds an engine; where anything fails nothing is left of it and what was there before stays.

    Raises:
        UsageError: no such offer, one that is there already, a licence that was not accepted.
        InputError: the file is damaged or holds other weights.
        DownloadError, OutputError, MissingComponent.
        EngineError: it cannot be converted, or does not give its reference's answers here.
    """
    offers = find_offers()
    if request.name is not None:
        check_name(request.name)
    if request.file is None:
        if request.name is None:
            raise UsageError(
                "name what to add, as 'rtface engines offers' lists it, or give a file with --from FILE",
                code="add_what",
            )
        return _fetched(offer_named(request.name, offers), request, talk, offers)
    if request.url is not None:
        raise UsageError("--from and --url exclude each other: a file, or where to fetch it", code="add_from_url")
    if request.file.suffix.lower() == ".onnx":
        return _plain(request.file, request, talk, offers)
    contents, sha256 = read_contents(request.file), digest(request.file)
    if request.name is None:
        offer = recognise(request.file, contents, sha256, offers.values())
        talk.output.log(f"{request.file} holds the weights of {offer.name}")
    else:
        offer = offer_named(request.name, offers)
        check(request.file, contents, offer, offers)
    if offer.published.sha256 not in (None, sha256):
        log.warning(
            "%s is not the published %s (SHA-256 %s…); that is as it should be where you trained it further",
            request.file,
            offer.published.file,
            sha256[:12],
        )
    source = SourceFile(request.file.name, request.file.stat().st_size, sha256)
    with _place(offer.name, offer.table.licence, request, talk) as place:
        return _converted(offer, request.file, source, place, request, talk)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an engine is `made`, and how its licence was `accepted`."""

    made: Path
    accepted: str


@contextmanager
def _place(name: str, terms: Licence, request: AddRequest, talk: AddCallbacks) -> Generator[_Place]:
    """Where to make an engine. Inside, no other process adds one of that name: one fetches, converts and moves in at a
    time. Raises UsageError where its licence is not accepted, or may not be, or it is there; OutputError."""
    if request.commercial_use and not terms.commercial_use:
        raise UsageError(
            "{name} may not be used commercially ({licence}), and commercial-use is on",
            code="add_commercial",
            name=name,
            licence=terms.shown,
        )
    _check_absent(name, request)
    how = talk.accept(licence.words(name, terms))
    if how is None:
        raise UsageError(
            "the licence of {name} was not accepted, so nothing was added; --accept-license accepts it where "
            "there is no terminal to ask on",
            code="add_licence",
            name=name,
        )
    with file_lock(
        cache_dir() / "downloads" / f"{name}.lock",
        lambda: talk.output.log(f"another rtface is downloading or converting {name}; waiting until it has ended"),
    ):
        _check_absent(name, request)  # it may have come while we waited
        with making(name) as made:
            yield _Place(made, how)


def _check_absent(name: str, request: AddRequest) -> None:
    if is_there(name) and not request.overwrite:
        raise UsageError(
            "engine {name} is there already, in {path}; {--overwrite=True} replaces it",
            code="add_exists",
            name=name,
            path=engines_folder() / name,
        )


def _fetched(offer: Offer, request: AddRequest, talk: AddCallbacks, offers: Mapping[str, Offer]) -> AddResult:
    published = offer.published
    url = request.url or published.url
    if url is None:
        raise UsageError(
            "{name} cannot be fetched; get {file} from its publisher and add it with: rtface engines add {name} "
            "--from FILE",
            code="add_fetch",
            name=offer.name,
            file=published.file or "its weights",
        )
    with _place(offer.name, offer.table.licence, request, talk) as place:
        return _fetched_from(url, offer, place, request, talk, offers)


def _fetched_from(
    url: str, offer: Offer, place: _Place, request: AddRequest, talk: AddCallbacks, offers: Mapping[str, Offer]
) -> AddResult:
    published = offer.published
    sha256 = published.sha256 or _pinned(offer.name)
    name = Path(urlsplit(url).path).name if request.url and not published.file else published.file
    target = cache_dir() / "downloads" / offer.name / (name or "weights")
    talk.output.log(f"fetching {shown(url)}")
    if urlsplit(url).scheme == "http" and sha256 is None:
        log.warning(
            "%s is not encrypted and has no published SHA-256: whoever is on the way could change it", shown(url)
        )
    try:
        file = download(PublishedFile(url, published.bytes, sha256), target, talk.fetched)
    except DownloadError:
        raise
    except OSError as error:
        raise OutputError(
            "{path} cannot be written ({why}); RTFACE_CACHE moves it",
            code="cache_unwritable",
            path=target,
            why=error.strerror,
        ) from error
    found = sha256 or digest(file)
    if sha256 is None:
        talk.output.log(f"its publisher names no SHA-256; {found} is taken for it from now on")
    try:
        check(file, read_contents(file), offer, offers)
    except InputError:
        if file == target:  # the next attempt must not find it
            target.unlink()
        raise
    added = _converted(offer, file, SourceFile(file.name, file.stat().st_size, found, shown(url)), place, request, talk)
    if file == target:  # what was made of it is what is needed
        shutil.rmtree(target.parent, ignore_errors=True)
    return added


def _pinned(name: str) -> str | None:
    """The SHA-256 of what was fetched for this engine before."""
    with suppress(EngineError):
        source = load_recipe(engines_folder() / name / "recipe.toml").source
        return source.sha256 if source is not None and source.url else None
    return None


def _converted(
    offer: Offer, weights: Path, source: SourceFile, place: _Place, request: AddRequest, talk: AddCallbacks
) -> AddResult:
    made = place.made
    check_room(made, _ROOM * source.bytes)
    done = convert(offer, weights, made, environment.find_python(request.python, talk.output), talk.progress)
    if done.sha256 != digest(made / "model.onnx"):
        raise EngineError(
            "{name} cannot be converted: the network was damaged on its way to {path}",
            code="add_damaged",
            name=offer.name,
            path=made,
        )
    return _finish(place, _table(offer, done, source), offer.table.licence, done, request, talk)


def _table(offer: Offer, done: ConversionResult, source: SourceFile) -> dict[str, Any]:
    """The recipe of a converted network."""
    table, published = offer.table, offer.published
    precision = replace(table.precision, fp32_nodes=done.fp32_nodes)
    return _stated(
        {
            "name": offer.name,
            "version": published.version,
            "summary": published.summary,
            "kind": "restorer",
            "family": table.architecture.family,
            "licence": asdict(table.licence),
            "weights": {
                "file": "model.onnx",
                "bytes": done.bytes,
                "sha256": done.sha256,
                "parameters": done.parameters,
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


def _stated(value: Any) -> Any:
    """Without what is None: TOML has no word for it."""
    if not isinstance(value, dict):
        return value
    return {key: _stated(inner) for key, inner in value.items() if inner is not None}


def _plain(file: Path, request: AddRequest, talk: AddCallbacks, offers: Mapping[str, Offer]) -> AddResult:
    """An ONNX file, as it is."""
    if request.name is None:
        raise UsageError(
            "an ONNX file does not say whose network it is; name it, as in: rtface engines add gfpgan-1.4 --from "
            "{file}",
            code="add_onnx_name",
            file=as_typed(file),
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
            ("Whose network this is, and what may be done with it, only you can know: write it into its recipe.toml."),
        )
    )
    if offer is None:
        talk.output.log(
            f"{name} is not an engine that rtface knows{hint(name, offers)}; it is added as an engine of your own"
        )
    source = SourceFile(file.name, file.stat().st_size, digest(file))
    with _place(name, terms, request, talk) as place:
        made = place.made
        check_room(made, _ROOM * source.bytes)
        network.write(made / "model.onnx")
        table = _plain_table(name, network, offer, terms, source, made / "model.onnx")
        recipe = from_table(Recipe, table | {"folder": made, "digest": "plain"}, "")
        talk.output.log(
            f"{name} is compiled, run on golden crops and checked in {recipe.precision.default}: some seconds, of a "
            "large network minutes"
        )
        talk.progress("computing golden crops", 0.0)
        write_golden(recipe, request.threads or 1)
        return _finish(place, table, terms, None, request, talk)


def _plain_table(
    name: str, network: GenericNetwork, offer: Offer | None, terms: Licence, source: SourceFile, model: Path
) -> dict[str, Any]:
    spans = (offer.table.input.range, offer.table.output.range) if offer else ((-1.0, 1.0), (-1.0, 1.0))
    controls: dict[str, Any] = {"strength": True}
    if network.control_name is not None:
        known = offer.table.controls.fidelity if offer else None
        controls["fidelity"] = {"name": network.control_name, "default": known.default if known else 0.5}
    f32, bf16 = (offer.table.psnr.f32, offer.table.psnr.bf16) if offer else (55.0, 30.0)
    return _stated(
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
            "input": {"name": network.input.name, "size": network.size, "range": list(spans[0])},
            "output": {"name": network.output.name, "range": list(spans[1])},
            "batch": {"min": 1, "opt": 1, "max": network.max_batch},
            # It is not known which of its nodes would have to stay in fp32: fp16 is not tried. OpenVINO compiles some
            # for a quarter of an hour in bf16 (convolutions of single channels with 17×17 weights).
            "precision": {"default": "bf16" if offer else "f32", "fallback": "f32"},
            "controls": controls,
            "golden": {"file": "golden.npz", "psnr": {"f32": f32, "bf16": bf16}},
            "source": asdict(source),
        }
    )


def _finish(
    place: _Place,
    table: dict[str, Any],
    terms: Licence,
    done: ConversionResult | None,
    request: AddRequest,
    talk: AddCallbacks,
) -> AddResult:
    """The record, the recipe (last), the gate, and the move into its place."""
    made = place.made
    licence.record(made, table["name"], terms, place.accepted)
    # Goldens of another conversion must not be judged by what was found about these.
    table = table | {"golden": table["golden"] | {"sha256": digest(made / table["golden"]["file"])}}
    (made / "recipe.toml").write_text(to_toml(table), encoding="utf-8")
    recipe = load_recipe(made / "recipe.toml")
    talk.progress("checking it against its golden crops", 0.0)
    engine = HostEngine(recipe, threads=request.threads)  # which passes its golden gate by that
    engine.close()
    folder = move_in(made, recipe.name)
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
        done.onnx_error if done else None,
    )
