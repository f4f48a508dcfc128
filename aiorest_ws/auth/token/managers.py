"""JSON Web Tokens (RFC 7519), signed with HMAC by PyJWT."""

import base64
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiorest_ws.auth.token.exceptions import (
    BaseTokenException,
    InvalidSignatureException,
    ParsingTokenException,
    TokenExpiredException,
    TokenNotBeforeException,
)
from aiorest_ws.conf import settings
from aiorest_ws.exceptions import ImproperlyConfigured

try:
    import jwt
except ImportError as exc:
    raise ImportError(
        'tokens need PyJWT; in a clone of aiorest-ws: pip install ".[auth]"', name=exc.name
    ) from exc

__all__ = ("JSONWebTokenManager",)

# RFC 7518, 3.2: a key of the size of the hash output or larger MUST be used.
_KEY_BYTES_MIN = {"HS256": 32, "HS384": 48, "HS512": 64}
# The published default of 1.1.
_DEFAULT_SECRET_OF_1_1 = b"secret_key"


class JSONWebTokenManager:
    """Creates and verifies tokens.

    `SECRET_KEY` and `HASH_ALGORITHM` (HS256, HS384 or HS512) come from the arguments, else from a
    subclass, else from the settings. A missing, published or short secret (RFC 7518 requires 32,
    48 or 64 bytes) raises `ImproperlyConfigured`. With an `AUDIENCE`, `verify` accepts only tokens
    for it; without one it does not check `aud`. `clock` returns seconds since the epoch.
    """

    SECRET_KEY: str | bytes | None = None
    HASH_ALGORITHM: str | None = None
    AUDIENCE: str | None = None

    # The names that `generate` takes as keywords; a subclass may add claims of its own.
    RESERVED_NAMES: tuple[str, ...] = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti")

    def __init__(
        self,
        *,
        secret_key: str | bytes | None = None,
        algorithm: str | None = None,
        audience: str | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if secret_key is not None:
            self.SECRET_KEY = secret_key
        elif self.SECRET_KEY is None:
            self.SECRET_KEY = settings.SECRET_KEY
        if algorithm is not None:
            self.HASH_ALGORITHM = algorithm
        elif self.HASH_ALGORITHM is None:
            self.HASH_ALGORITHM = settings.HASH_ALGORITHM
        if audience is not None:
            self.AUDIENCE = audience
        self._clock = time.time if clock is None else clock
        key, name = self._key_and_algorithm()
        try:
            # PyJWT refuses keys that look like a certificate or a public key.
            jwt.get_algorithm_by_name(name).prepare_key(key)
        except jwt.InvalidKeyError as exc:
            raise ImproperlyConfigured(
                "SECRET_KEY is no secret: it looks like a certificate or a public key"
            ) from exc

    def generate(
        self,
        data: Mapping[str, Any],
        *,
        iss: str | None = None,
        sub: str | None = None,
        aud: str | list[str] | None = None,
        exp: float | None = None,
        nbf: float | None = None,
        iat: float | None = None,
        jti: str | None = None,
        **kwargs: Any,
    ) -> str:
        """Return a token with `data` and the given claims.

        `exp` and `nbf` are seconds from now, `iat` is seconds since the epoch. Raises `TypeError`
        or `ValueError` for a claim that RFC 7519 does not allow. `data` is not changed. A subclass
        may add names to RESERVED_NAMES, which become claims, and pass other keywords through.
        """
        own = {name: value for name, value in kwargs.items() if name in self.RESERVED_NAMES}
        if len(own) < len(kwargs) and type(self) is JSONWebTokenManager:
            raise TypeError(f"there is no claim {next(iter(kwargs))!r} to generate")
        if not isinstance(data, Mapping):
            raise TypeError(f"the data of a token must be a mapping, not {type(data).__name__}")
        key, algorithm = self._key_and_algorithm()
        now = self._clock()
        claims = {
            "iss": _text("iss", iss),
            "sub": _text("sub", sub),
            "aud": [_text("aud", name) for name in aud]
            if isinstance(aud, list | tuple)
            else _text("aud", aud),
            "exp": None if exp is None else now + _seconds("exp", exp),
            "nbf": None if nbf is None else now + _seconds("nbf", nbf),
            "iat": None if iat is None else _seconds("iat", iat),
            "jti": _text("jti", jti),
            **own,
        }
        payload = {**data, **{name: value for name, value in claims.items() if value is not None}}
        return jwt.encode(payload, key, algorithm)

    def verify(self, token: str) -> dict[str, Any]:
        """Return the payload of `token`, if it is signed by us and valid now."""
        if not isinstance(token, str) or token.count(".") != 2:
            raise ParsingTokenException()
        if not _is_canonical(token.rpartition(".")[2]):
            raise InvalidSignatureException()
        payload = self._decode(token)
        now = self._clock()
        if "nbf" in payload and now < _claimed_seconds(payload["nbf"]):
            raise TokenNotBeforeException()
        # RFC 7519, 4.1.4: "on or after which the JWT MUST NOT be accepted".
        if "exp" in payload and now >= _claimed_seconds(payload["exp"]):
            raise TokenExpiredException()
        return payload

    def _decode(self, token: str) -> dict[str, Any]:
        key, algorithm = self._key_and_algorithm()
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self.AUDIENCE,
                # `verify` checks `exp` and `nbf`, by our clock.
                options={
                    "verify_aud": self.AUDIENCE is not None,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_jti": False,
                    "verify_nbf": False,
                    "verify_sub": False,
                },
            )
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as exc:
            raise InvalidSignatureException() from exc
        except (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError) as exc:
            raise BaseTokenException("The token is for another audience.") from exc
        except (jwt.PyJWTError, ValueError, RecursionError) as exc:
            # PyJWT raises UnicodeEncodeError for a surrogate, RecursionError for a deep header.
            raise ParsingTokenException() from exc

    def _key_and_algorithm(self) -> tuple[bytes, str]:
        # Checked at each use, because both attributes may be set later.
        algorithm = self.HASH_ALGORITHM
        if not isinstance(algorithm, str) or algorithm not in _KEY_BYTES_MIN:
            raise ImproperlyConfigured(
                f"HASH_ALGORITHM must be one of {', '.join(_KEY_BYTES_MIN)}"
            )
        key = self.SECRET_KEY
        if isinstance(key, str):
            key = key.encode()
        if not isinstance(key, bytes) or not key:
            raise ImproperlyConfigured("SECRET_KEY must be set to sign tokens: a random secret")
        if key == _DEFAULT_SECRET_OF_1_1:
            raise ImproperlyConfigured(
                "SECRET_KEY is the published default of aiorest-ws 1.1: choose a random secret"
            )
        if len(key) < _KEY_BYTES_MIN[algorithm]:
            raise ImproperlyConfigured(
                f"SECRET_KEY must have at least {_KEY_BYTES_MIN[algorithm]} bytes "
                f"for {algorithm} (RFC 7518, 3.2)"
            )
        return key, algorithm


def _is_canonical(segment: str) -> bool:
    # base64 decoders ignore invalid characters and the last bits of the last one: several texts
    # would be accepted as the same signature.
    try:
        value = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        return False
    return base64.urlsafe_b64encode(value).rstrip(b"=") == segment.encode()


def _text(claim: str, value: str | None) -> str | None:
    # RFC 7519, 4.1: StringOrURI; PyJWT checks only some of them, and only on decoding.
    if value is not None and not isinstance(value, str):
        raise TypeError(f"`{claim}` must be a string, not {type(value).__name__}")
    return value


def _seconds(claim: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{claim}` must be a number of seconds, not {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"`{claim}` must be finite")
    return value


def _claimed_seconds(value: Any) -> float:
    try:
        return _seconds("", value)
    except (TypeError, ValueError) as exc:
        raise ParsingTokenException() from exc
