"""Signs outputs by C2PA content credentials inside MP4, MOV, PNG, JPEG, TIFF and WebP (extra ``credentials``).

Nothing is fetched from a network: neither manifests that lie elsewhere nor lists of revoked certificates.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rtface._version import __version__
from rtface.config.options import Options, OutputOptions
from rtface.engine.learned import MARK
from rtface.errors import MissingComponent, OutputError, UsageError
from rtface.media.files.workfile import Target, WorkFile, full
from rtface.media.marks.provenance import DIGITAL_SOURCE_TYPE, ENHANCED, GENERATED, Change
from rtface.media.stills.image_write import encode_by
from rtface.report import Report, unnamed
from rtface.trust.sidecar import Made, areas_said, engines_said, options_said
from rtface.trust.signing import SigningKey, from_extra
from rtface.util.foreign import read_regular
from rtface.util.urls import Address

KINDS = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
}
"""Media types of files that hold credentials, by extension."""
_UNKNOWN, _FACES = "application/octet-stream", "org.rtface.faces"
_SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
# What c2pa calls a signature whose certificate is on none of its lists.
_UNTRUSTED = "signingCredential.untrusted"
_WORDS = {
    "dataHash.mismatch": "its content was changed after it was signed",
    "bmffHash.mismatch": "its content was changed after it was signed",
    "hashedURI.mismatch": "what it says of itself was changed after it was signed",
    "claimSignature.mismatch": "the signature is not that of this file",
    "signingCredential.expired": "the certificate had expired",
}


def library() -> Any:
    """The module c2pa; MissingComponent where the extra is not installed."""
    return from_extra("c2pa")


def can_hold(path: Path) -> bool:
    """Whether files of this extension hold credentials."""
    return path.suffix.lower() in KINDS


def signing_key(options: OutputOptions, input: Path | Address | None = None) -> SigningKey | None:
    """The key that ``--sign`` names, checked before any work; None where nothing is to be signed.

    Args:
        options: of the run.
        input: None for a live run.

    Raises:
        MissingComponent: the extra is not installed.
        UsageError: the key or its certificate cannot be used, or the input is no file.
    """
    if options.sign is None:
        return None
    library()
    if isinstance(input, Address):
        raise UsageError(
            "credentials name the INPUT, which {--sign} wants to be a file or a folder", code="credentials_input"
        )
    key = SigningKey.load(options.sign)
    if not options.dry_run:
        _check_key(key)
    return key


def _check_key(key: SigningKey) -> None:
    """Signs an image in memory, to see that C2PA takes the key and its certificate; UsageError where not."""
    import av

    data, out = encode_by("png", av.VideoFrame(16, 16, "rgb24")), io.BytesIO()
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [{"action": "c2pa.edited"}]}}
    said = {"claim_generator_info": [{"name": "rtface"}], "assertions": [actions]}
    try:
        _sign(said, key, (io.BytesIO(data), "image/png"), (io.BytesIO(data), "image/png"), out)
        found = _read("image/png", out)
        why = "; ".join(found.problems) if found else "nothing was signed"
    except library().C2paError as error:
        why = _said(error)
    if why:
        raise UsageError(
            "{--sign}: the certificate and its key cannot be used for credentials ({why})",
            code="certificate_unfit",
            why=why,
        )


def sign_output(
    key: SigningKey,
    output: Path,
    input: Path,
    options: Options,
    report: Report,
    made: Made,
    stop: threading.Event | None = None,
) -> str:
    """Puts credentials into a finished output, or into the stills of a folder; the line for the user.

    Raises:
        OutputError: one cannot be signed; it is whole, without credentials.
    """
    stills = [output / name for name in made.names] if output.is_dir() else [output]
    for number, path in enumerate(stills):
        if can_hold(path):
            parent = input / path.name if input.is_dir() else input
            said = manifest(parent, options, report, made, number if made.names else None, stop=stop)
            sign_file(path, said, parent, key)
    return f"{output.name if len(stills) == 1 else f'{len(stills)} stills'}: signed"


def sign_file(path: Path, manifest: Mapping[str, Any], parent: Path | str, key: SigningKey) -> None:
    """Puts credentials into a finished file, in one step: it has its old content until they are whole.

    Args:
        path: the file; credentials that it has are replaced.
        manifest: for c2pa's builder; the opening of the parent is added to its actions.
        parent: the input, whose credentials are kept inside; only the name of a camera or stream.
        key: signs.

    Raises:
        OutputError: it cannot be signed or written; it stays as it was.
    """
    work: WorkFile | None = None
    try:
        work = WorkFile(Target(path, str(path), overwrite=True))
        with ExitStack() as stack:
            source, out = stack.enter_context(path.open("rb")), stack.enter_context(work.edited())
            title, origin = str(parent), None
            if isinstance(parent, Path):
                title, kind = parent.name, KINDS.get(parent.suffix.lower(), _UNKNOWN)
                origin = (stack.enter_context(parent.open("rb")), kind)
            _sign(manifest, key, (source, KINDS[path.suffix.lower()]), origin, out, title)
        work.publish()
        work = None
    except (library().C2paError, OSError) as error:
        why = full(error) or error.strerror if isinstance(error, OSError) else _said(error)
        raise OutputError(
            "{path}: could not be signed ({why}); it is whole, without credentials",
            code="not_signed",
            path=path,
            why=why,
        ) from error
    finally:
        if work is not None:
            work.discard()


def _sign(
    manifest: Mapping[str, Any],
    key: SigningKey,
    source: tuple[Any, str],
    parent: tuple[Any, str] | None,
    out: Any,
    title: str = "input",
) -> None:
    c2pa = library()
    ingredient = {"title": title, "relationship": "parentOf"}
    if parent is None:
        manifest = {**manifest, "ingredients": [{**ingredient, "format": _UNKNOWN}]}
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(key.algorithm.encode(), key.certificates, key.key, None))
    with c2pa.Context.from_dict(_SETTINGS) as context, c2pa.Builder(json.dumps(manifest), context) as builder:
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        if parent is not None:
            builder.add_ingredient(ingredient, parent[1], parent[0])
        builder.sign(signer, source[1], source[0], out)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@dataclass(slots=True)
class Credentials:
    """The credentials of a file.

    Attributes:
        valid: whether signature and content fit.
        trusted: whether c2pa's list, or the anchors that were given, vouch for the certificate.
        problems: in words, where it is not valid.
        manifest: what they say, as c2pa reads it: signer, tool, what it was made of, actions, assertions.
    """

    valid: bool
    trusted: bool
    problems: list[str] = field(default_factory=list[str])
    manifest: dict[str, Any] = field(default_factory=dict[str, Any])

    def assertion(self, label: str) -> dict[str, Any]:
        """The data of the assertion whose label begins so; empty where there is none."""
        said = self.manifest.get("assertions", ())
        return next((one.get("data", {}) for one in said if one.get("label", "").startswith(label)), {})

    @property
    def said(self) -> dict[str, Any]:
        """What rtface says of files, settings and areas, as a sidecar does; empty where it says nothing."""
        return self.assertion(_FACES)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the areas of each frame."""
        said = {name: value for name, value in self.said.items() if name != "changed"}
        all = self.manifest.get("assertions", ())
        kept = [one | {"data": said} if one.get("label") == _FACES else one for one in all]
        return {**asdict(self), "manifest": {**self.manifest, "assertions": kept}}

    def lines(self) -> list[str]:
        """What they say, in words."""
        signature = self.manifest.get("signature_info", {})
        signer = signature.get("common_name") or signature.get("issuer") or "an unnamed certificate"
        vouched = "" if self.trusted else "; who signed is not proven: no list of c2pa has the certificate"
        state = f"the content is as it was signed{vouched}" if self.valid else "; ".join(self.problems)
        said = [f"credentials signed by {signer}: {state}"]
        said += [f"made with {one.get('name')}" for one in self.manifest.get("claim_generator_info", ())[:1]]
        for one in self.manifest.get("ingredients", ()):
            has = ", which has credentials too" if one.get("active_manifest") else ""
            said.append(f"made of {one.get('title', 'an input')}{has}")
        for action in self.assertion("c2pa.actions").get("actions", ()):
            kind = action.get("digitalSourceType", "").rpartition("/")[2]
            said.append(f"action {action['action']}" + (f" ({kind})" if kind else ""))
        return said


def read_credentials(path: Path, anchors: str | None = None) -> Credentials | None:
    """The credentials in a file; None where it has none, can have none, or names an address of theirs.

    Args:
        path: the file.
        anchors: certificates (PEM) that are trusted, and c2pa's list.

    Raises:
        MissingComponent: the extra is not installed, and the file looks as if it had credentials.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None or not path.is_file():
        return None
    with path.open("rb") as file:
        try:
            return _read(kind, file, anchors)
        except MissingComponent:
            if b"c2pa" in file.read(1 << 20):
                raise
            return None
        except library().C2paError as error:
            if "ManifestNotFound" in str(error) or "no JUMBF" in str(error) or str(error).startswith("Remote"):
                return None
            return Credentials(False, False, [f"they cannot be read ({_said(error)})"])


def read_anchors(path: Path) -> str:
    """The certificates in a file, for `read_credentials`; UsageError where there is none.

    Raises:
        MissingComponent: the extra is not installed.
    """
    x509 = from_extra("cryptography.x509")
    try:
        data = read_regular(path)
        x509.load_pem_x509_certificates(data)
    except (OSError, ValueError) as error:
        raise UsageError(
            "--trust {path}: is no certificate in PEM form that can be read ({why})",
            code="trust_no_pem",
            path=path,
            why=error,
        ) from error
    return data.decode("ascii", "replace")


def _read(kind: str, file: Any, anchors: str | None = None) -> Credentials | None:
    c2pa = library()
    settings = _SETTINGS if anchors is None else {**_SETTINGS, "trust": {"user_anchors": anchors}}
    with c2pa.Context.from_dict(settings) as context, c2pa.Reader(kind, file, None, context) as reader:
        values, state = json.loads(reader.json()), reader.get_validation_state()
    active = values.get("manifests", {}).get(values.get("active_manifest"))
    if active is None:
        return None
    status = [one.get("code", "") for one in values.get("validation_status", ())]
    valid = state in ("Valid", "Trusted")
    named = [next((words for end, words in _WORDS.items() if code.endswith(end)), code) for code in status]
    problems = [words for words in dict.fromkeys(named) if words != _UNTRUSTED]
    return Credentials(
        valid, state == "Trusted", [] if valid else problems or ["the credentials are not valid"], active
    )


def manifest(
    input: Path | str,
    options: Options,
    report: Report,
    made: Made,
    still: int | None = None,
    *,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """What is signed, for c2pa's builder.

    Args:
        input: of the run; of a camera or stream its name.
        options, report, made: of the run.
        still: number of the still; None for a film.
        stop: ends the work when set.
    """
    agent: dict[str, Any] = {"name": "rtface", "version": __version__}
    touched = still is None or any(number == still for number, _ in made.changed.rows())
    change = made.changed.change if touched else Change.NOTHING
    names = ["c2pa.edited"] if change else []
    names += ["c2pa.transcoded"] if still is None else []
    actions = [{"action": name, "softwareAgent": agent} for name in names or ["c2pa.converted"]]
    terms = {Change.GENERATED: GENERATED, Change.CORRECTED: DIGITAL_SOURCE_TYPE, Change.FILTERED: ENHANCED}
    if kind := next((term for flag, term in terms.items() if change & flag), None):
        actions[0]["digitalSourceType"] = kind
    faces = {
        **areas_said(input, options, report, made, still, stop=stop),
        "engines": _unnamed_engines(report),
        "options": _without_names(options),
        "changes": change.names,
    }
    return {
        "claim_generator_info": [agent],
        "title": Path(report.output or "").name or "output",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": _FACES, "data": faces},
        ],
    }


def _unnamed_engines(report: Report) -> dict[str, dict[str, str]]:
    """`engines_said` without anything by which a person could be told: names, and hashes of what was learnt."""
    said = engines_said(report)
    return {name: said[name] for name in said if MARK not in name} | {
        f"{name.partition(MARK)[0]}{MARK}named": {key: said[name][key] for key in ("version", "weights_sha256")}
        for name in said
        if MARK in name
    }


def _without_names(options: Options) -> dict[str, Any]:
    """`options_said` for those who get the output: without names of persons, and without what stages write."""
    said = options_said(options)
    said.pop("person", None)
    named = {"faces": unnamed(options.faces), "stages": [stage.partition(":")[0] for stage in options.stages]}
    return said | {key: value for key, value in named.items() if key in said}
