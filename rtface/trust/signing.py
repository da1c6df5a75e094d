"""Signs bytes by a certificate's key, and says who signed them (extra ``credentials``)."""

from __future__ import annotations

import base64
import stat
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rtface.errors import MissingComponent, UsageError
from rtface.util.foreign import read_regular
from rtface.util.install import extra_line
from rtface.util.paths import expanded


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its certificates.

    Attributes:
        certificates: PEM, that of the key first.
        key: PEM, PKCS 8, not encrypted.
        algorithm: as C2PA names it: "es256", "es384", "es512", "ps256" or "ed25519".
    """

    certificates: bytes
    key: bytes
    algorithm: str

    @classmethod
    def load(cls, spec: str) -> SigningKey:
        """The key of ``--sign CERT,KEY``.

        Raises:
            MissingComponent: the extra is not installed.
            UsageError: a file cannot be read, is no certificate or key, or others may read the key.
        """
        _cryptography()
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        names = [name.strip() for name in spec.split(",")]
        if len(names) != 2 or not all(names):
            raise UsageError(
                "{--sign:{value}}: name two files, the certificate and its key: CERT.pem,KEY.pem",
                code="sign_form",
                value=spec,
            )
        certificate, key = (expanded(name, "--sign") for name in names)
        try:
            certificates, secret, mode = read_regular(certificate), read_regular(key), key.stat().st_mode
            x509.load_pem_x509_certificates(certificates)
            private: Any = load_pem_private_key(secret, None)
        except OSError as error:
            raise UsageError(
                "{--sign}: {path}: cannot be read ({why})",
                code="sign_unreadable",
                path=error.filename,
                why=error.strerror,
            ) from error
        except (ValueError, TypeError) as error:
            raise UsageError(
                "{--sign:{value}}: these are no certificate and private key without a password, in PEM form",
                code="sign_pem",
                value=spec,
            ) from error
        if sys.platform != "win32" and stat.S_IMODE(mode) & 0o007:
            raise UsageError(
                "{--sign}: everybody may read the key {key}; take that from them with: chmod o= {key}",
                code="key_readable",
                key=key,
            )
        if isinstance(private, ec.EllipticCurvePrivateKey):
            algorithm = {256: "es256", 384: "es384", 521: "es512"}.get(private.curve.key_size)
        elif isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
            algorithm = "ps256"
        else:
            algorithm = "ed25519" if isinstance(private, ed25519.Ed25519PrivateKey) else None
        if algorithm is None:
            raise UsageError(
                "{--sign}: {path}: has a kind of key that C2PA does not allow; use P-256, P-384, P-521, Ed25519 or "
                "RSA of 2048 bits or more",
                code="key_kind",
                path=key,
            )
        return cls(certificates, secret, algorithm)

    def sign(self, data: bytes) -> dict[str, str]:
        """A signature of some bytes, for JSON: algorithm, certificates and value (base64, DER for ECDSA)."""
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        private: Any = load_pem_private_key(self.key, None)
        return {
            "algorithm": self.algorithm,
            "certificates": self.certificates.decode("ascii", "replace"),
            "value": base64.b64encode(private.sign(data, *_scheme(self.algorithm))).decode(),
        }


@dataclass(frozen=True, slots=True)
class Signer:
    """The signer of some bytes.

    Attributes:
        name: in the certificate.
        valid_then: whether the certificate was valid at the time that is given.
        trusted: whether one of the given certificates vouches for it.
    """

    name: str
    valid_then: bool
    trusted: bool


def signer_of(signature: dict[str, str], data: bytes, at: str | None, anchors: str | None = None) -> Signer | None:
    """Checks a signature; None where it is not of these bytes.

    Args:
        signature: as `SigningKey.sign` gives it.
        data: the bytes.
        at: when they were signed, ISO 8601; None where that is not known.
        anchors: certificates (PEM) that are trusted.

    Raises:
        MissingComponent: the extra is not installed.
    """
    _cryptography()
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        chain = x509.load_pem_x509_certificates(signature["certificates"].encode())
        public: Any = chain[0].public_key()
        public.verify(base64.b64decode(signature["value"], validate=True), data, *_scheme(signature["algorithm"]))
        name = chain[0].subject.rfc4514_string()
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, KeyError, TypeError, AttributeError):
        return None
    try:
        then = datetime.fromisoformat(str(at)).astimezone(UTC)
        valid = chain[0].not_valid_before_utc <= then <= chain[0].not_valid_after_utc
    except (ValueError, OverflowError):
        valid = False
    trusted = anchors is not None and _vouched(chain, x509.load_pem_x509_certificates(anchors.encode()))
    return Signer(name, valid, trusted)


def _vouched(chain: list[Any], anchors: list[Any]) -> bool:
    """Whether the first certificate of a chain is an anchor, or each is issued by the next, and one by an anchor."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    def issued(certificate: Any, issuer: Any) -> bool:
        try:
            certificate.verify_directly_issued_by(issuer)
            return bool(issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension):
            return False

    for number, certificate in enumerate(chain):
        if certificate in anchors or any(issued(certificate, anchor) for anchor in anchors):
            return True
        if number + 1 == len(chain) or not issued(certificate, chain[number + 1]):
            return False
    return False


def missing_extra() -> MissingComponent:
    """The error where the extra is not installed."""
    return MissingComponent(
        "credentials and signatures need an extra that is not installed; install it with: {repair}",
        code="credentials_extra",
        repair=extra_line("credentials"),
    )


def _cryptography() -> None:
    try:
        import cryptography  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise missing_extra() from error


def _scheme(algorithm: str) -> tuple[Any, ...]:
    """Arguments of `sign` and `verify`, by C2PA's name of an algorithm."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    if algorithm == "ed25519":
        return ()
    if algorithm == "ps256":
        return padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
    return (ec.ECDSA({"es256": hashes.SHA256, "es384": hashes.SHA384, "es512": hashes.SHA512}[algorithm]()),)
