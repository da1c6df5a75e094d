"""C2PA content credentials: signed metadata in MP4, MOV, PNG, JPEG, TIFF and WebP (extra ``credentials``).

Nothing is fetched from a network: neither manifests that lie elsewhere nor lists of revoked certificates; a time-stamp
server is asked only where one is named.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rtface.errors import Message, OutputError, UsageError
from rtface.media.files.workfile import Target, WorkFile, full
from rtface.media.formats.mp4 import boxes
from rtface.media.stills.image_write import encode_by
from rtface.trust.signing_key import SigningKey, missing_extra
from rtface.util.foreign import read_regular

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
_INPUTS = {**KINDS, ".mkv": "video/x-matroska", ".webm": "video/webm", ".avi": "video/avi", ".bmp": "image/bmp"}
_UNKNOWN = "application/octet-stream"
_HEAD = 8  # bytes of a box's size and kind
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
    try:
        return importlib.import_module("c2pa")
    except ImportError as error:
        raise missing_extra() from error


def can_hold(path: Path) -> bool:
    """Whether files of this extension hold credentials."""
    return path.suffix.lower() in KINDS


def check_key(key: SigningKey, timestamp: str | None = None) -> None:
    """Signs an image in memory, to see that C2PA takes the key and its certificate, and that the time-stamp server
    answers; UsageError where not."""
    import av

    data, out = encode_by("png", av.VideoFrame(16, 16, "rgb24")), io.BytesIO()
    manifest = {
        "claim_generator_info": [{"name": "rtface"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [{"action": "c2pa.edited"}]}}],
    }
    try:
        _sign(manifest, key, None, (io.BytesIO(data), "image/png"), (io.BytesIO(data), "image/png"), out)
        found = _read("image/png", io.BytesIO(out.getvalue()))
        if timestamp is not None:
            _check_server(manifest, key, timestamp, data)
    except library().C2paError as error:
        raise UsageError(
            "{--sign}: the certificate cannot be used for credentials ({why})",
            code="certificate_unfit",
            why=_said(error),
        ) from error
    if found is None or not found.valid:
        raise UsageError(
            "{--sign}: the certificate cannot be used for credentials ({why})",
            code="certificate_unfit",
            why="; ".join(found.problems) if found else Message("nothing was signed", code="none_signed"),
        )


def _check_server(manifest: Mapping[str, Any], key: SigningKey, timestamp: str, image: bytes) -> None:
    """UsageError where a time-stamp server does not answer, or not with a time stamp."""
    if not timestamp.startswith(("http://", "https://")):
        raise UsageError(
            "{--timestamp:{address}}: is no address of a time-stamp server; it begins with http:// or https://",
            code="timestamp_address",
            address=timestamp,
        )
    out, why = io.BytesIO(), "it did not answer with a time stamp"
    try:
        _sign(manifest, key, timestamp, (io.BytesIO(image), "image/png"), None, out)
        found = _read("image/png", io.BytesIO(out.getvalue()))
        if found is not None and found.time:
            return
    except library().C2paError as error:
        why = _said(error)
    raise UsageError(
        "{--timestamp:{address}}: no time stamp came ({why}); check the address, or leave it out",
        code="timestamp_none",
        address=timestamp,
        why=why,
    )


def sign_file(
    path: Path, manifest: Mapping[str, Any], parent: Path | str, key: SigningKey, timestamp: str | None = None
) -> None:
    """Puts credentials into a finished file, in one step: it has its old content until they are whole.

    Args:
        path: the file; credentials that it has are replaced.
        manifest: for c2pa's builder; the opening of the parent is added to its actions.
        parent: the input, whose credentials are kept inside; only the name of a camera or stream.
        key: signs.
        timestamp: address of a time-stamp server; None asks none.

    Raises:
        OutputError: it cannot be signed or written; it stays as it was.
    """
    work: WorkFile | None = None
    try:
        work = WorkFile(Target(path, str(path), overwrite=True))
        with ExitStack() as stack:
            source, out = stack.enter_context(path.open("rb")), stack.enter_context(work.edited())
            title, origin = (
                (parent, None)
                if isinstance(parent, str)
                else (
                    parent.name,
                    (stack.enter_context(parent.open("rb")), _INPUTS.get(parent.suffix.lower(), _UNKNOWN)),
                )
            )
            _sign(manifest, key, timestamp, (source, KINDS[path.suffix.lower()]), origin, out, title=title)
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
    timestamp: str | None,
    source: tuple[Any, str],
    parent: tuple[Any, str] | None,
    out: Any,
    title: str = "input",
) -> None:
    c2pa = library()
    ingredient = {"title": title, "relationship": "parentOf"}
    if parent is None:
        manifest = {**manifest, "ingredients": [{**ingredient, "format": _UNKNOWN}]}
    signer = c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(
            key.algorithm.encode(), key.certificates, key.key, timestamp.encode() if timestamp else None
        )
    )
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
        signer: name in the certificate.
        tool: what made the claim.
        time: of the signature by a time-stamp server, or None.
        time_trusted: whether that server's certificate is vouched for.
        valid: whether signature and content fit.
        trusted: whether c2pa's list, or the anchors that were given, vouch for the certificate.
        problems: in words, where it is not valid.
        inputs: names of what it was made of, and whether those have credentials themselves.
        actions: what was done: name, digital source type, tool.
        faces: what rtface said of faces, engines and options, or None.
        elsewhere: they do not lie in the file but at an address, which is not asked: nothing of them is known.
    """

    signer: str
    tool: str
    time: str | None
    valid: bool
    trusted: bool
    problems: list[str] = field(default_factory=list[str])
    inputs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    actions: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    faces: dict[str, Any] | None = None
    time_trusted: bool = False
    elsewhere: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """What they say, in words."""
        if self.elsewhere:
            return ["its credentials lie at an address, which is not asked: they are not checked"]
        vouched = (
            "" if self.trusted else ("; the certificate is not on a list that c2pa knows, so who signed is not proven")
        )
        time = f", {self.time}{'' if self.time_trusted else ' by an unknown time-stamp server'}" if self.time else ""
        said = [
            f"credentials signed by {self.signer}{time}: "
            + (f"the content is as it was signed{vouched}" if self.valid else "; ".join(self.problems))
        ]
        if self.tool:
            said.append(f"made with {self.tool}")
        said += [
            f"made of {one['title']}" + (", which has credentials too" if one["credentials"] else "")
            for one in self.inputs
        ]
        for action in self.actions:
            kind = action.get("digitalSourceType", "").rpartition("/")[2]
            count = len(action.get("changes", ()))
            said.append(
                f"action {action['action']}"
                + (f" ({kind})" if kind else "")
                + (f", {count} {'range' if count == 1 else 'ranges'} of time" if count else "")
            )
        return said


def read_credentials(path: Path, anchors: str | None = None) -> Credentials | None:
    """The credentials in a file; None where it has none, or can have none.

    Args:
        path: the file.
        anchors: certificates (PEM) that are trusted, and c2pa's list.

    Raises:
        MissingComponent: the extra is not installed.
    """
    kind = _INPUTS.get(path.suffix.lower())
    if kind is None or not path.is_file() or path.suffix.lower() in (".mkv", ".webm", ".bmp"):
        return None
    c2pa = library()
    with path.open("rb") as file:
        try:
            return _read(kind, file, anchors)
        except c2pa.C2paError.ManifestNotFound:
            return None
        except c2pa.C2paError as error:
            if "ManifestNotFound" in str(error) or "no JUMBF" in str(error):
                return None
            if str(error).startswith("Remote"):
                return Credentials("unknown", "", None, False, False, elsewhere=True)
            return Credentials("unknown", "", None, False, False, [f"the credentials cannot be read ({_said(error)})"])


def bytes_left_out(path: Path) -> int:
    """Bytes of an MP4 or MOV that its credentials do not cover: of the boxes that C2PA leaves out. An empty one, as
    FFmpeg writes it, does not count."""
    if not KINDS.get(path.suffix.lower(), "").startswith("video/"):
        return 0
    with path.open("rb") as file:
        return sum(size - _HEAD for kind, size in boxes(file) if kind in (b"free", b"skip"))


def read_anchors(path: Path) -> str:
    """The certificates in a file, for `read_credentials`; UsageError where there is none.

    Raises:
        MissingComponent: the extra is not installed.
    """
    library()
    from cryptography import x509

    try:
        data = read_regular(path)
        x509.load_pem_x509_certificates(data)
        return data.decode("ascii")
    except OSError as error:
        raise UsageError(
            "--trust {path}: cannot be read ({why})", code="trust_unreadable", path=path, why=error.strerror
        ) from error
    except ValueError as error:
        raise UsageError("--trust {path}: is no certificate in PEM form", code="trust_no_pem", path=path) from error


def may_have_credentials(path: Path) -> bool:
    """Whether the first bytes of a file look as if it had credentials, for where the extra is not installed."""
    try:
        with path.open("rb") as file:
            return b"c2pa" in file.read(1 << 20)
    except OSError:
        return False


def _read(kind: str, file: Any, anchors: str | None = None) -> Credentials | None:
    c2pa = library()
    settings = _SETTINGS if anchors is None else {**_SETTINGS, "trust": {"user_anchors": anchors}}
    with c2pa.Context.from_dict(settings) as context, c2pa.Reader(kind, file, None, context) as reader:
        values, state = json.loads(reader.json()), reader.get_validation_state()
    active = values.get("manifests", {}).get(values.get("active_manifest"))
    if active is None:
        return None
    checked = values.get("validation_results", {}).get("activeManifest", {})
    status = [one.get("code", "") for one in values.get("validation_status", ())]
    assertions = {one.get("label", ""): one.get("data", {}) for one in active.get("assertions", ())}
    signature = active.get("signature_info", {})
    tools = active.get("claim_generator_info", [{}])
    problems = list(dict.fromkeys(_worded(code) for code in status if code != _UNTRUSTED))
    valid = state in ("Valid", "Trusted")
    return Credentials(
        signature.get("common_name") or signature.get("issuer") or "an unnamed certificate",
        " ".join(filter(None, (tools[0].get("name"), tools[0].get("version")))),
        signature.get("time"),
        valid,
        state == "Trusted",
        [] if valid else problems or ["the credentials are not valid"],
        [
            {"title": one.get("title", "an input"), "credentials": bool(one.get("active_manifest"))}
            for one in active.get("ingredients", ())
        ],
        [
            dict(one)
            for label, data in assertions.items()
            if label.startswith("c2pa.actions")
            for one in data.get("actions", ())
        ],
        assertions.get("org.rtface.faces"),
        any(one.get("code") == "timeStamp.trusted" for one in checked.get("success", ())),
    )


def _worded(code: str) -> str:
    return next((words for end, words in _WORDS.items() if code.endswith(end)), code)
