"""Signs bytes with a certificate's key, and verifies signers (extra ``credentials``)."""

from __future__ import annotations

import base64
import importlib
import stat
import sys
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from rtface.errors import MissingComponent, UsageError
from rtface.util.foreign import read_regular
from rtface.util.install import extra_line
from rtface.util.paths import expanded


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Contains a private key with its certificates.

    Attributes:
        certificates: certificates (PEM); the first is that of the key.
        key: private key (PEM, PKCS 8, not encrypted).
        algorithm: C2PA's name of the algorithm: "es256", "es384", "es512", "ps256" or "ed25519".
    """

    certificates: bytes
    key: bytes
    algorithm: str

    @classmethod
    def load(cls, spec: str) -> SigningKey:
        """Loads the key of ``--sign CERT,KEY``.

        Raises:
            MissingComponent: the extra is not installed.
            UsageError: a file cannot be read, is not a certificate or key for C2PA, or others may read the key.
        """
        x509 = from_extra("cryptography.x509")
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            paths = [expanded(name.strip(), "--sign") for name in spec.partition(",")[::2]]
            certificate, key = map(read_regular, paths)
            mode = paths[1].stat().st_mode
            x509.load_pem_x509_certificates(certificate)
            private: Any = load_pem_private_key(key, None)
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(
                "{--sign:{value}}: give a certificate and its private key without a password, in PEM format: "
                "CERT.pem,KEY.pem ({why})",
                code="sign_pem",
                value=spec,
                why=error,
            ) from error
        if sys.platform != "win32" and stat.S_IMODE(mode) & 0o007:
            raise UsageError(
                "{--sign}: everybody can read the key {key}; restrict it with: chmod o= {key}",
                code="key_readable",
                key=paths[1],
            )
        algorithm = None
        if isinstance(private, ec.EllipticCurvePrivateKey):
            algorithm = {256: "es256", 384: "es384", 521: "es512"}.get(private.curve.key_size)
        elif isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
            algorithm = "ps256"
        elif isinstance(private, ed25519.Ed25519PrivateKey):
            algorithm = "ed25519"
        if algorithm is None:
            raise UsageError(
                "{--sign:{value}}: C2PA does not allow such keys; use P-256, P-384, P-521, Ed25519 or RSA of 2048 "
                "bits or more",
                code="key_kind",
                value=spec,
            )
        return cls(certificate, key, algorithm)

    def sign(self, data: bytes) -> dict[str, str]:
        """Signs bytes. Returns algorithm, certificates, and signature (base64; DER for ECDSA) as text for JSON."""
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        private: Any = load_pem_private_key(self.key, None)
        return {
            "algorithm": self.algorithm,
            "certificates": self.certificates.decode("ascii", "replace"),
            "value": base64.b64encode(private.sign(data, *_scheme(self.algorithm))).decode(),
        }


def signer_of(signature: dict[str, str], data: bytes, anchors: str | None = None) -> tuple[str, bool] | None:
    """Checks a signature. Returns the certificate's name and whether an anchor vouches for it, or None if invalid.

    Args:
        signature: result of `SigningKey.sign`.
        data: bytes that were signed.
        anchors: trusted certificates (PEM).

    Raises:
        MissingComponent: the extra is not installed.
    """
    x509 = from_extra("cryptography.x509")
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        chain = x509.load_pem_x509_certificates(signature["certificates"].encode())
        public: Any = chain[0].public_key()
        public.verify(base64.b64decode(signature["value"], validate=True), data, *_scheme(signature["algorithm"]))
        name = chain[0].subject.rfc4514_string()
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, KeyError, TypeError, AttributeError):
        return None
    return name, anchors is not None and _is_vouched_for(chain, x509.load_pem_x509_certificates(anchors.encode()))


def _is_vouched_for(chain: list[Any], anchors: list[Any]) -> bool:
    """Tells whether an anchor vouches for a chain: it is in the unbroken chain, or issued one of its certificates."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    def is_issued_by(certificate: Any, issuer: Any) -> bool:
        try:
            certificate.verify_directly_issued_by(issuer)
            return bool(issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension):
            return False

    for certificate, issuer in zip_longest(chain, chain[1:]):
        if certificate in anchors or any(is_issued_by(certificate, anchor) for anchor in anchors):
            return True
        if issuer is None or not is_issued_by(certificate, issuer):
            break
    return False


def from_extra(module: str) -> Any:
    """Imports a module of the extra. Raises MissingComponent if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingComponent(
            "credentials and signatures need an extra that is not installed; install it with: {repair}",
            code="credentials_extra",
            repair=extra_line("credentials"),
        ) from error


def _scheme(algorithm: str) -> tuple[Any, ...]:
    """Returns the arguments of `sign` and `verify` for an algorithm."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    if algorithm == "ed25519":
        return ()
    if algorithm == "ps256":
        return padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
    return (ec.ECDSA({"es256": hashes.SHA256, "es384": hashes.SHA384, "es512": hashes.SHA512}[algorithm]()),)
