"""A certificate authority for one cluster, and what it certifies: as long-lived as a test needs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=30)
_BOTH_ENDS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key, both as files in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs the certificates of one cluster; its own is `folder/ca.crt`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "littoral test cluster")])
        self.certificate = folder / "ca.crt"
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def issue(self, name: str, *, group: str = "", addresses: Sequence[str] = ()) -> Identity:
        """Certify `name`, in Kubernetes a user of `group`, as a server at `addresses` (IP addresses and DNS names)."""
        key = ec.generate_private_key(ec.SECP256R1())
        groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
        subject = x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self._name, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage(_BOTH_ENDS), critical=False)
        if addresses:
            builder = builder.add_extension(x509.SubjectAlternativeName(_names(addresses)), critical=False)
        made = Identity(self._file(name, "crt"), self._file(name, "key"))
        made.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        write_key(made.key, key)
        return made

    def _file(self, name: str, suffix: str) -> Path:
        return self._folder / f"{name.replace(':', '-')}.{suffix}"


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write the private key in PEM, for its owner alone, in the one form that the API server also signs with."""
    path.touch(mode=0o600)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + VALID)


def _names(addresses: Sequence[str]) -> list[x509.GeneralName]:
    return [_name(address) for address in addresses]


def _name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
