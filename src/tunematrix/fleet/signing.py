"""An authority that signs one certificate, by which all members of a fleet are known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

AUTHORITY = "tunematrix fleet"
MEMBER = "tunematrix fleet member"


@dataclass(frozen=True)
class _Validity:
    """From when and until when a certificate holds."""

    since: datetime
    until: datetime


def signed(since: datetime, until: datetime) -> tuple[bytes, bytes]:
    """Return an authority's certificate, and a member's with its private key, as PEM.

    Args:
        since, until: when both begin and cease to hold.
    """
    root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    private = own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    validity = _Validity(since, until)
    member = _certificate(MEMBER, own, root, validity, is_authority=False)
    authority = _certificate(AUTHORITY, root, root, validity, is_authority=True)
    return authority, member + private


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    validity: _Validity,
    *,
    is_authority: bool,
) -> bytes:
    builder = x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(_name(AUTHORITY))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(validity.since).not_valid_after(validity.until)
    limits = x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None)
    builder = builder.add_extension(limits, critical=True)
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(signed_by, critical=False)
    known_by = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(known_by, critical=False)
    builder = builder.add_extension(_usage(is_authority=is_authority), critical=True)
    return bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    """Return what a key may be used for: an authority's signs, a member's proves who it is."""
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
