"""The key that outputs are signed with: a certificate's, or one made on first use (extra ``credentials``)."""

from __future__ import annotations

import base64
import datetime
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtface.errors import MissingComponent, OutputError, UsageError
from rtface.util.files import NEW
from rtface.util.foreign import read_regular
from rtface.util.install import extra_line
from rtface.util.paths import data_dir, expanded

_YEARS = 10


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
    def load(cls, spec: str | None) -> SigningKey:
        """The key of ``--sign CERT,KEY``; without, the user's own, which is made where there is none.

        Raises:
            MissingComponent: the extra is not installed.
            UsageError: a file cannot be read, is no certificate or key, the two do not belong together, the
                certificate is not valid now, or others may read the key.
        """
        _cryptography()
        if spec is None:
            place = data_dir() / "signing"
            certificate, key = place / "certificate.pem", place / "key.pem"
            if not key.exists():
                _make(certificate, key)
        else:
            names = [name.strip() for name in spec.split(",")]
            if len(names) != 2 or not all(names):
                raise UsageError(
                    "{--sign:{value}}: name two files, the certificate and its key: CERT.pem,KEY.pem",
                    code="sign_form",
                    value=spec,
                )
            certificate, key = (expanded(name, "--sign") for name in names)
        return cls._read(certificate, key)

    @classmethod
    def _read(cls, certificate: Path, key: Path) -> SigningKey:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization

        try:
            certificates, secret = read_regular(certificate), read_regular(key)
            mode = key.stat().st_mode
        except OSError as error:
            raise UsageError(
                "{--sign}: {path}: cannot be read ({why})",
                code="sign_unreadable",
                path=error.filename,
                why=error.strerror,
            ) from error
        if sys.platform != "win32" and stat.S_IMODE(mode) & 0o077:
            raise UsageError(
                "{--sign}: others may read the key {key}; take that from them with: chmod 600 {key}",
                code="key_readable",
                key=key,
            )
        try:
            chain = x509.load_pem_x509_certificates(certificates)
        except ValueError as error:
            raise UsageError(
                "{--sign}: {certificate}: is no certificate in PEM form",
                code="sign_certificate",
                certificate=certificate,
            ) from error
        try:
            private: Any = serialization.load_pem_private_key(secret, None)
        except (ValueError, TypeError) as error:
            raise UsageError(
                "{--sign}: {key}: is no private key in PEM form without a password", code="sign_key", key=key
            ) from error
        if _public(private.public_key()) != _public(chain[0].public_key()):
            raise UsageError(
                "{--sign}: the key {key} is not that of the certificate {certificate}",
                code="key_other",
                key=key,
                certificate=certificate,
            )
        now = datetime.datetime.now(datetime.UTC)
        first, last = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc
        if not first <= now <= last:
            raise UsageError(
                "{--sign}: the certificate {certificate} is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d} only",
                code="certificate_dates",
                certificate=certificate,
                first=first,
                last=last,
            )
        return cls(certificates, secret, _algorithm(private, key))

    def sign(self, data: bytes) -> dict[str, str]:
        """A signature of some bytes, for JSON: algorithm, certificates and value (base64, DER for ECDSA)."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec, rsa

        private: Any = serialization.load_pem_private_key(self.key, None)
        if isinstance(private, ec.EllipticCurvePrivateKey):
            value = private.sign(data, ec.ECDSA(_hash(self.algorithm)))
        elif isinstance(private, rsa.RSAPrivateKey):
            value = private.sign(data, _pss(), _hash(self.algorithm))
        else:
            value = private.sign(data)
        return {
            "algorithm": self.algorithm,
            "certificates": self.certificates.decode("ascii", "replace"),
            "value": base64.b64encode(value).decode(),
        }


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed some bytes.

    Attributes:
        name: in the certificate.
        valid_then: whether the certificate was valid at the time that is given.
        trusted: whether one of the given certificates vouches for it.
    """

    name: str
    valid_then: bool
    trusted: bool


def signer_of(
    signature: dict[str, str], data: bytes, at: datetime.datetime | None = None, anchors: str | None = None
) -> Signer | None:
    """Who signed some bytes; None where the signature is not of them.

    Args:
        signature: as `SigningKey.sign` gives it.
        data: the bytes.
        at: when they were signed; None where that is not known.
        anchors: certificates (PEM) that are trusted.

    Raises:
        MissingComponent: the extra is not installed.
    """
    _cryptography()
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        chain = x509.load_pem_x509_certificates(signature["certificates"].encode())
        public: Any = chain[0].public_key()
        value = base64.b64decode(signature["value"], validate=True)
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(value, data, ec.ECDSA(_hash(signature["algorithm"])))
        elif isinstance(public, rsa.RSAPublicKey):
            public.verify(value, data, _pss(), _hash(signature["algorithm"]))
        else:
            public.verify(value, data)
        name = chain[0].subject.rfc4514_string()
    except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError):
        return None
    trusted = anchors is not None and _vouched(chain, x509.load_pem_x509_certificates(anchors.encode()))
    first, last = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc
    return Signer(name, at is not None and first <= at <= last, trusted)


def _vouched(chain: list[Any], anchors: list[Any]) -> bool:
    """Whether the first certificate of a chain is an anchor, or each is issued by the next, and one by an anchor."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    def issued(certificate: Any, issuer: Any) -> bool:
        try:
            certificate.verify_directly_issued_by(issuer)
            return bool(issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
            return False

    for number, certificate in enumerate(chain):
        if certificate in anchors or any(issued(certificate, anchor) for anchor in anchors):
            return True
        if number + 1 == len(chain) or not issued(certificate, chain[number + 1]):
            return False
    return False


def missing_extra() -> MissingComponent:
    """What to raise where the extra is not installed."""
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


def _public(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _algorithm(private: Any, path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ec.EllipticCurvePrivateKey):
        name = {256: "es256", 384: "es384", 521: "es512"}.get(private.curve.key_size)
    elif isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        name = "ps256"
    else:
        name = "ed25519" if isinstance(private, ed25519.Ed25519PrivateKey) else None
    if name is None:
        raise UsageError(
            "{--sign}: {path}: has a kind of key that C2PA does not allow; use P-256, P-384, P-521, Ed25519 or "
            "RSA of 2048 bits or more",
            code="key_kind",
            path=path,
        )
    return name


def _hash(algorithm: str) -> Any:
    from cryptography.hazmat.primitives import hashes

    return {"es256": hashes.SHA256, "es384": hashes.SHA384, "es512": hashes.SHA512, "ps256": hashes.SHA256}[algorithm]()


def _pss() -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    return padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def _make(certificate: Path, key: Path) -> None:
    """Makes a key that only its owner can read, and a certificate for it whose issuer's key is thrown away."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "rtface, unverified"),
                x509.NameAttribute(NameOID.COMMON_NAME, common),
            ]
        )

    def usage(*, sign: bool, issue: bool) -> x509.KeyUsage:
        return x509.KeyUsage(sign, False, False, False, False, issue, issue, False, False)

    def begun(subject: str, own: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("issuer"))
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False)
        )

    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    issuer, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    above = (
        begun("issuer", issuer)
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(usage(sign=False, issue=True), True)
        .sign(issuer, hashes.SHA256())
    )
    mine = (
        begun("a key of this computer", own)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(usage(sign=True, issue=False), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False)
        .sign(issuer, hashes.SHA256())
    )
    try:
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        certificate.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (mine, above)))
        number = os.open(key, NEW, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(
                own.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
    except OSError as error:
        raise OutputError(
            "{path}: the signing key cannot be made ({why})", code="key_unmade", path=key.parent, why=error.strerror
        ) from error
