"""Certificates for tests, made on the spot: one good authority, and ways to be wrong."""

import datetime as dt
import ssl
from pathlib import Path
from typing import Literal

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["Authority", "Identity"]

Identity = Literal["good", "expired", "wrong-host", "self-signed"]


class Authority:
    """A certificate authority that nobody trusts but whoever is given its `ca_file`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    def server(self, identity: Identity = "good", *, host: str = "127.0.0.1") -> ssl.SSLContext:
        """A server context that says it is `host`, truly or not."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if identity == "self-signed":
            file = self._folder / "self-signed.pem"
            file.write_bytes(_self_signed(host))
            context.load_cert_chain(file)
            return context
        past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        name = "elsewhere.example" if identity == "wrong-host" else host
        if identity == "expired":
            leaf = self._ca.issue_cert(name, not_before=past - dt.timedelta(days=9), not_after=past)
        else:
            leaf = self._ca.issue_cert(name)
        leaf.configure_cert(context)
        return context


def _self_signed(host: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
