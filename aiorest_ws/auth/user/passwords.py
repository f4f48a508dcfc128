"""Password hashes: argon2id, and for stored hashes the unsalted SHA-256 of 1.1."""

import functools
import hashlib
import hmac
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ("check_password", "hash_password", "is_outdated")

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


def hash_password(password: str) -> str:
    """Return the salted argon2id hash of `password`; takes tens of milliseconds and 64 MiB."""
    return _hasher().hash(password)


def check_password(password: str, stored: str) -> bool:
    """Tell whether `stored` is the hash of `password`.

    An empty or unknown hash matches no password, and takes as long to check as a valid one, so
    that the time does not reveal which users exist.
    """
    try:
        encoded = password.encode()
    except (AttributeError, UnicodeEncodeError):
        # A client may send anything as a password.
        return False
    if stored.startswith("$argon2"):
        return _matches_argon2(stored, encoded)
    _hasher().hash(encoded)
    digest = hashlib.sha256(encoded).hexdigest()
    return bool(_SHA256_HEX.fullmatch(stored)) and hmac.compare_digest(digest, stored)


def is_outdated(stored: str) -> bool:
    """Tell whether a hash is weaker than those of `hash_password`."""
    return not stored.startswith("$argon2") or _hasher().check_needs_rehash(stored)


def _matches_argon2(stored: str, password: bytes) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(stored, password)
    except (InvalidHashError, VerificationError):
        return False


@functools.cache
def _hasher() -> "PasswordHasher":
    # Imported here: only users with passwords need argon2.
    try:
        from argon2 import PasswordHasher
    except ImportError as exc:
        raise ImportError(
            'passwords need argon2-cffi; in a clone of aiorest-ws: pip install ".[auth]"',
            name=exc.name,
        ) from exc
    return PasswordHasher()
