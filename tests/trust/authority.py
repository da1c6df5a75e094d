"""A certificate authority made here, for what signs and what trusts."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("c2pa", reason="the extra is not installed")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM


class Authority:
    """A certificate authority, in files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        folder.mkdir(parents=True, exist_ok=True)
        self.issue("ca", self._key)

    @property
    def anchor(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str = "Newsroom", key: Any = None, *, web: bool = False, ended: bool = False) -> str:
        """Makes NAME.pem, of which the authority's own certificate is the end, and NAME.key; "NAME.pem,NAME.key"."""
        ca, key = key is self._key, key or ec.generate_private_key(ec.SECP256R1())
        subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, "ca"))
        # C2PA's validator takes names with an organisation only.
        subject, issuer = (
            x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Made here"), *one]) for one in (subject, issuer)
        )
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(now + datetime.timedelta(days=-1 if ended else 9))
            .add_extension(x509.BasicConstraints(ca, None), True)
            .add_extension(x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )
        if not ca:
            use = ExtendedKeyUsageOID.SERVER_AUTH if web else ExtendedKeyUsageOID.EMAIL_PROTECTION
            made = made.add_extension(x509.ExtendedKeyUsage([use]), False)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        above = b"" if ca else self.anchor.read_bytes()
        paths[0].write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(PEM) + above)
        paths[1].write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        paths[1].chmod(0o600)
        return ",".join(map(str, paths))
