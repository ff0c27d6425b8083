"""AES-128 as HLS has it, for tests that need a source under a key."""

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7


def encrypted(data: bytes, key: bytes, iv: bytes) -> bytes:
    """Encrypt a segment, RFC 8216bis section 4.4.4.4: CBC, padded by PKCS #7."""
    padder = PKCS7(128).padder()
    encryptor = Cipher(AES128(key), CBC(iv)).encryptor()
    return encryptor.update(padder.update(data) + padder.finalize()) + encryptor.finalize()
