"""Reads C2PA content credentials in films and stills (extra ``credentials``). `KINDS` lists the containers.

Nothing is fetched from a network: neither remote manifests nor lists of revoked certificates.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rtface.errors import MissingComponent, UsageError, message_of
from rtface.trust.signing import from_extra
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
"""Media types of files that can contain credentials, by extension."""
FACES = "org.rtface.faces"  # label of the assertion with the fields of a sidecar
SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
# c2pa's code for a signature whose certificate is not on any of c2pa's lists.
_UNTRUSTED = "signingCredential.untrusted"
_MESSAGES = {
    "dataHash.mismatch": "its content was changed after it was signed",
    "bmffHash.mismatch": "its content was changed after it was signed",
    "hashedURI.mismatch": "its description was changed after it was signed",
    "claimSignature.mismatch": "the signature does not belong to this file",
    "signingCredential.expired": "the certificate had expired",
}


def can_hold(path: Path) -> bool:
    """Tells whether files with this extension can contain credentials."""
    return path.suffix.lower() in KINDS


@dataclass(slots=True)
class Credentials:
    """Contains the credentials of a file.

    Attributes:
        valid: whether the signature matches the content.
        trusted: whether c2pa's list, or one of the given anchors, vouches for the certificate.
        problems: reasons why the credentials are invalid; empty if they are valid.
        manifest: manifest as c2pa returns it: signer, tool, ingredients, actions, assertions.
    """

    valid: bool
    trusted: bool
    problems: list[str] = field(default_factory=list[str])
    manifest: dict[str, Any] = field(default_factory=dict[str, Any])

    def assertion(self, label: str) -> dict[str, Any]:
        """Returns the data of the first assertion with the prefix `label`. Returns {} if there is none."""
        assertions = self.manifest.get("assertions", ())
        return next((one.get("data", {}) for one in assertions if one.get("label", "").startswith(label)), {})

    @property
    def sidecar_fields(self) -> dict[str, Any]:
        """rtface's fields for files, settings and areas, like those in a sidecar. Empty if there are none."""
        return self.assertion(FACES)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, without the areas of each frame."""
        fields = {name: value for name, value in self.sidecar_fields.items() if name != "changed"}
        shortened = [
            one | {"data": fields} if one.get("label") == FACES else one for one in self.manifest.get("assertions", ())
        ]
        return {**asdict(self), "manifest": {**self.manifest, "assertions": shortened}}

    def lines(self) -> list[str]:
        """Describes the credentials for users, in lines."""
        signature = self.manifest.get("signature_info", {})
        signer = signature.get("common_name") or signature.get("issuer") or "an unnamed certificate"
        trust_note = "" if self.trusted else "; the signer is not verified: the certificate is on no list of c2pa"
        state = f"the content is as it was signed{trust_note}" if self.valid else "; ".join(self.problems)
        lines = [f"credentials signed by {signer}: {state}"]
        lines += [f"made with {one.get('name')}" for one in self.manifest.get("claim_generator_info", ())[:1]]
        for one in self.manifest.get("ingredients", ()):
            note = ", which has credentials too" if one.get("active_manifest") else ""
            lines.append(f"made of {one.get('title', 'an input')}{note}")
        for action in self.assertion("c2pa.actions").get("actions", ()):
            kind = action.get("digitalSourceType", "").rpartition("/")[2]
            lines.append(f"action {action['action']}" + (f" ({kind})" if kind else ""))
        return lines


def read_credentials(path: Path, anchors: str | None = None) -> Credentials | None:
    """Reads the credentials in a file. Returns None if it has none, cannot contain any, or contains only their address.

    Args:
        path: the file.
        anchors: trusted certificates (PEM), in addition to c2pa's list.

    Raises:
        MissingComponent: the extra is not installed, and the file seems to have credentials.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None or not path.is_file():
        return None
    with path.open("rb") as file:
        try:
            return read_open(kind, file, anchors)
        except MissingComponent:
            if b"c2pa" in file.read(1 << 20):
                raise
            return None
        except from_extra("c2pa").C2paError as error:
            if "ManifestNotFound" in str(error) or "no JUMBF" in str(error) or str(error).startswith("Remote"):
                return None
            return Credentials(False, False, [f"they cannot be read ({message_of(error)})"])


def read_anchors(path: Path) -> str:
    """Reads the certificates in a file, for `read_credentials`. Raises UsageError if there is none.

    Raises:
        MissingComponent: the extra is not installed.
    """
    x509 = from_extra("cryptography.x509")
    try:
        data = read_regular(path)
        x509.load_pem_x509_certificates(data)
    except (OSError, ValueError) as error:
        raise UsageError(
            "--trust {path}: is not a readable certificate in PEM format ({why})",
            code="trust_no_pem",
            path=path,
            why=error,
        ) from error
    return data.decode("ascii", "replace")


def read_open(kind: str, file: Any, anchors: str | None = None) -> Credentials | None:
    """Reads credentials of an open file. `kind` is its media type. Raises the errors of c2pa."""
    c2pa = from_extra("c2pa")
    settings = SETTINGS if anchors is None else {**SETTINGS, "trust": {"user_anchors": anchors}}
    with c2pa.Context.from_dict(settings) as context, c2pa.Reader(kind, file, None, context) as reader:
        values, state = json.loads(reader.json()), reader.get_validation_state()
    active = values.get("manifests", {}).get(values.get("active_manifest"))
    if active is None:
        return None
    status = [one.get("code", "") for one in values.get("validation_status", ())]
    valid = state in ("Valid", "Trusted")
    messages = [
        next((message for suffix, message in _MESSAGES.items() if code.endswith(suffix)), code) for code in status
    ]
    problems = [message for message in dict.fromkeys(messages) if message != _UNTRUSTED]
    return Credentials(
        valid, state == "Trusted", [] if valid else problems or ["the credentials are not valid"], active
    )
