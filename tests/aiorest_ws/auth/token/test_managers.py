"""Tokens: made, verified, refused, stored."""

import base64
import contextlib
import hashlib
import hmac
import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiorest_ws.auth.token.exceptions import (
    BaseTokenException,
    InvalidSignatureException,
    ParsingTokenException,
    TokenExpiredException,
    TokenNotBeforeException,
    TokenNotProvidedException,
)
from aiorest_ws.auth.token.managers import JSONWebTokenManager
from aiorest_ws.exceptions import BaseAPIException, ImproperlyConfigured
from aiorest_ws.test.utils import override_settings

SECRET = "s3cret-" * 10
NOW = 1_700_000_000.25


# RFC 7515, A.1: a token made by somebody else, its key, and what it says.
RFC_KEY = base64.urlsafe_b64decode(
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
)
RFC_TOKEN = (
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)
RFC_PAYLOAD = {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}


def manager(now=NOW, **options):
    options.setdefault("secret_key", SECRET)
    return JSONWebTokenManager(clock=lambda: now, **options)


def encoded(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header, payload, key=None, digest=hashlib.sha256):
    """Make a token by RFC 7515, without PyJWT."""
    key = key or SECRET.encode()
    text = f"{encoded(header)}.{encoded(payload)}"
    return f"{text}.{encoded(hmac.digest(key, text.encode(), digest))}"


PUBLIC_KEY = f"-----BEGIN PUBLIC KEY-----\n{'k' * 64}\n-----END PUBLIC KEY-----\n"
HS256 = {"typ": "JWT", "alg": "HS256"}


# What is made


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)],
)
def test_a_token_is_signed_as_the_rfc_says(algorithm, digest):
    token = manager(algorithm=algorithm).generate({"user": "anna"})
    text, _, signature = token.rpartition(".")
    assert signature == encoded(hmac.digest(SECRET.encode(), text.encode(), digest))
    header, payload = (
        json.loads(base64.urlsafe_b64decode(part + "==")) for part in text.split(".")
    )
    assert header == {"typ": "JWT", "alg": algorithm}
    assert payload == {"user": "anna"}
    assert manager(algorithm=algorithm).verify(token) == {"user": "anna"}


def test_the_vector_of_the_rfc_is_read():
    before_its_end = manager(now=RFC_PAYLOAD["exp"] - 1, secret_key=RFC_KEY)
    assert before_its_end.verify(RFC_TOKEN) == RFC_PAYLOAD
    with pytest.raises(TokenExpiredException):
        manager(secret_key=RFC_KEY).verify(RFC_TOKEN)


def test_reserved_claims_come_back():
    claims = {"iss": "us", "sub": "anna", "aud": ["web", "cli"], "iat": 5, "jti": "1"}
    token = manager().generate({"id": 7}, exp=60, nbf=-60, **claims)
    assert manager().verify(token) == {"id": 7, **claims, "exp": NOW + 60, "nbf": NOW - 60}


def test_the_data_given_are_not_changed_and_may_hold_claims():
    data = {"id": 7, "exp": NOW + 5, "sub": "old"}
    token = manager().generate(data, sub="new")
    assert data == {"id": 7, "exp": NOW + 5, "sub": "old"}
    assert manager().verify(token) == {"id": 7, "exp": NOW + 5, "sub": "new"}


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"exp": "60"}, TypeError),
        ({"exp": True}, TypeError),
        ({"exp": float("nan")}, ValueError),
        ({"nbf": float("inf")}, ValueError),
        ({"nbf": []}, TypeError),
        ({"iat": "now"}, TypeError),
        ({"iss": 1}, TypeError),
        ({"sub": 1}, TypeError),
        ({"jti": 1}, TypeError),
        ({"aud": 1}, TypeError),
        ({"aud": ["a", 1]}, TypeError),
        ({"ait": 1}, TypeError),
    ],
)
def test_claims_that_no_token_may_have_are_refused(claims, error):
    with pytest.raises(error, match="|".join(claims)):
        manager().generate({}, **claims)


@pytest.mark.parametrize("data", [None, "text", ["list"], 1])
def test_data_must_be_a_mapping(data):
    with pytest.raises(TypeError, match="mapping"):
        manager().generate(data)


# When it holds


@pytest.mark.parametrize(
    ("claims", "later", "error"),
    [
        ({"exp": 60}, 0, None),
        ({"exp": 60}, 59.9, None),
        ({"exp": 60}, 60, TokenExpiredException),
        ({"exp": 60}, 61, TokenExpiredException),
        ({"exp": 0}, 0, TokenExpiredException),
        ({"exp": -1}, 0, TokenExpiredException),
        ({"nbf": 60}, 0, TokenNotBeforeException),
        ({"nbf": 60}, 59.9, TokenNotBeforeException),
        ({"nbf": 60}, 60, None),
        ({"nbf": 0}, 0, None),
        ({"nbf": -60}, 0, None),
        ({"nbf": 10, "exp": 20}, 5, TokenNotBeforeException),
        ({"nbf": 10, "exp": 20}, 15, None),
        ({"nbf": 10, "exp": 20}, 25, TokenExpiredException),
        ({}, 10**9, None),
    ],
)
def test_times_are_seconds_from_now(claims, later, error):
    token = manager().generate({}, **claims)
    reader = manager(now=NOW + later)
    if error is None:
        assert set(reader.verify(token)) == set(claims)
    else:
        with pytest.raises(error):
            reader.verify(token)


def test_the_real_clock_is_the_default():
    own = JSONWebTokenManager(secret_key=SECRET)
    assert own.verify(own.generate({"id": 1}, exp=60, nbf=0))["id"] == 1
    with pytest.raises(TokenExpiredException):
        own.verify(own.generate({}, exp=-1))


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize("value", ["soon", None, True, [], float("nan"), float("inf")])
def test_a_time_that_is_no_number_is_refused(claim, value):
    with pytest.raises(ParsingTokenException):
        manager().verify(signed(HS256, {claim: value}))


# What is refused

GOOD = signed(HS256, {"id": 1})
HEAD, BODY, SIGNATURE = GOOD.split(".")


def test_the_token_that_the_bad_ones_are_made_of_is_good():
    assert manager().verify(GOOD) == {"id": 1}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "text",
        "a.b",
        f"{GOOD}.x",
        "..",
        f"..{SIGNATURE}",
        f"x.{BODY}.{SIGNATURE}",
        f"{HEAD}\udc80.{BODY}.{SIGNATURE}",
        f"{encoded([])}.{BODY}.{SIGNATURE}",
        f"{encoded(b'[' * 100_000)}.{BODY}.{SIGNATURE}",
        f"{encoded(b'{')}.{BODY}.{SIGNATURE}",
        f"{encoded({'alg': 'HS256', 'kid': 1})}.{BODY}.{SIGNATURE}",
        f"{encoded({'alg': 'HS256', 'b64': False})}.{BODY}.{SIGNATURE}",
        signed(HS256, [1]),
        signed(HS256, b"no json"),
        signed(HS256, b"\xff"),
        signed(HS256, b"[" * 100_000),
        signed(HS256 | {"crit": ["x"], "x": 1}, {}),
        None,
        1,
        GOOD.encode(),
        ["a"],
    ],
)
def test_what_is_no_token_cannot_be_read(token):
    with pytest.raises(ParsingTokenException):
        manager().verify(token)


@pytest.mark.parametrize(
    "token",
    [
        signed(HS256, {"id": 1}, key=b"another-key" * 4),
        f"{HEAD}.{encoded({'id': 2})}.{SIGNATURE}",
        f"{encoded(HS256 | {'x': 1})}.{BODY}.{SIGNATURE}",
        f"{HEAD}..{SIGNATURE}",
        f"{HEAD}.{BODY}.",
        f"{HEAD}.{BODY}.{SIGNATURE[:-2]}",
        f"{HEAD}.{BODY}.{SIGNATURE}=",
        f"{HEAD}.{BODY}.{SIGNATURE}\n",
        f"{HEAD}.{BODY}.!{SIGNATURE}",
        f"{HEAD}.{BODY}.{SIGNATURE}\udc80",
        f"{encoded({'alg': 'none'})}.{BODY}.",
        f"{encoded({'alg': 'None'})}.{BODY}.{SIGNATURE}",
        f"{encoded({'alg': 'RS256'})}.{BODY}.{SIGNATURE}",
        f"{encoded({'alg': []})}.{BODY}.{SIGNATURE}",
        f"{encoded({})}.{BODY}.{SIGNATURE}",
        # Rightly signed by our key, but by another algorithm than ours.
        signed({"alg": "HS512"}, {"id": 1}, digest=hashlib.sha512),
        signed({"alg": "none"}, {"id": 1}),
    ],
)
def test_what_we_did_not_sign_is_refused(token):
    with pytest.raises(InvalidSignatureException):
        manager().verify(token)


def test_a_signature_has_one_spelling():
    # 43 characters hold 258 bits, two more than a signature has: four spellings decode alike.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    accepted = []
    for last in alphabet:
        try:
            manager().verify(GOOD[:-1] + last)
        except InvalidSignatureException:
            continue
        accepted.append(last)
    assert accepted == [GOOD[-1]]


few_examples = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)


@few_examples
@given(st.one_of(st.text(), st.lists(st.text(), min_size=3, max_size=3).map(".".join)))
def test_any_other_text_is_refused(token):
    with pytest.raises(BaseTokenException):
        manager().verify(token)


@few_examples
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists), st.text())
def test_any_header_and_payload_are_refused_or_read(value, name):
    for token in (signed({"alg": "HS256", name: value}, {}), signed(HS256, {name: value})):
        with contextlib.suppress(BaseTokenException):
            assert isinstance(manager().verify(token), dict)


def test_audience_is_judged_when_there_is_one():
    web = manager(audience="web")
    assert web.verify(manager().generate({}, aud="web")) == {"aud": "web"}
    assert web.verify(manager().generate({}, aud=["cli", "web"])) == {"aud": ["cli", "web"]}
    for token in (manager().generate({}, aud="cli"), manager().generate({})):
        with pytest.raises(BaseTokenException, match="audience"):
            web.verify(token)


# Secrets and algorithms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"secret_key": "secret_key"}, "default of aiorest-ws 1.1"),
        ({"secret_key": b"secret_key"}, "default of aiorest-ws 1.1"),
        ({"secret_key": ""}, "must be set"),
        ({"secret_key": b""}, "must be set"),
        ({"secret_key": 12345678901234567890123456789012}, "must be set"),
        ({"secret_key": "k" * 31}, "at least 32 bytes"),
        ({"secret_key": "k" * 47, "algorithm": "HS384"}, "at least 48 bytes"),
        ({"secret_key": "k" * 63, "algorithm": "HS512"}, "at least 64 bytes"),
        ({"secret_key": PUBLIC_KEY}, "a certificate or a public key"),
        ({"secret_key": SECRET, "algorithm": "none"}, "HASH_ALGORITHM"),
        ({"secret_key": SECRET, "algorithm": "RS256"}, "HASH_ALGORITHM"),
        ({"secret_key": SECRET, "algorithm": ["HS256"]}, "HASH_ALGORITHM"),
    ],
)
def test_bad_secrets_and_algorithms_are_refused_at_start(options, message):
    with pytest.raises(ImproperlyConfigured, match=message) as refused:
        JSONWebTokenManager(**options)
    assert not options["secret_key"] or str(options["secret_key"]) not in str(refused.value)
    names = {"secret_key": "SECRET_KEY", "algorithm": "HASH_ALGORITHM"}
    with (
        override_settings(**{names[name]: value for name, value in options.items()}),
        pytest.raises(ImproperlyConfigured, match=message),
    ):
        JSONWebTokenManager()
    subclass = type(
        "Manager", (JSONWebTokenManager,), {names[name]: value for name, value in options.items()}
    )
    with pytest.raises(ImproperlyConfigured, match=message):
        subclass()


def test_there_is_no_default_secret():
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY must be set"):
        JSONWebTokenManager()


@pytest.mark.parametrize(("algorithm", "length"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_the_shortest_secret_works(algorithm, length):
    own = manager(secret_key="é" * (length // 2), algorithm=algorithm)
    assert own.verify(own.generate({})) == {}


def test_arguments_go_over_a_subclass_and_a_subclass_over_settings():
    class Own(JSONWebTokenManager):
        SECRET_KEY = "of the subclass " * 4
        HASH_ALGORITHM = "HS384"
        AUDIENCE = "web"

    with override_settings(SECRET_KEY="of the settings " * 4, HASH_ALGORITHM="HS512"):
        by_settings, by_subclass, by_argument = (
            JSONWebTokenManager(),
            Own(),
            Own(secret_key=SECRET, algorithm="HS256"),
        )
    for made, key, algorithm in (
        (by_settings, "of the settings " * 4, "HS512"),
        (by_subclass, "of the subclass " * 4, "HS384"),
        (by_argument, SECRET, "HS256"),
    ):
        token = made.generate({}, aud="web")
        assert manager(secret_key=key, algorithm=algorithm).verify(token) == {"aud": "web"}
        assert made.verify(token) == {"aud": "web"}


def test_attributes_of_a_manager_in_use_are_judged_again():
    own = manager()
    own.HASH_ALGORITHM = "HS512"
    assert manager(algorithm="HS512").verify(own.generate({"id": 1})) == {"id": 1}
    own.SECRET_KEY = "secret_key"
    with pytest.raises(ImproperlyConfigured):
        own.generate({})
    with pytest.raises(ImproperlyConfigured):
        own.verify(GOOD)


def test_errors_and_repr_show_no_secret_and_no_token():
    own = manager()
    assert SECRET not in repr(own)
    with pytest.raises(InvalidSignatureException) as refused:
        own.verify(signed(HS256, {"id": 1}, key=b"another-key" * 4))
    shown = f"{refused.value!r} {refused.value} {refused.value.detail}"
    assert "." not in refused.value.detail[:-1]
    assert SECRET not in shown


@pytest.mark.parametrize(
    "error",
    [
        BaseTokenException,
        InvalidSignatureException,
        ParsingTokenException,
        TokenExpiredException,
        TokenNotBeforeException,
        TokenNotProvidedException,
    ],
)
def test_errors_of_tokens_are_401(error):
    assert issubclass(error, BaseTokenException)
    assert issubclass(error, BaseAPIException)
    assert (error().status, error().status_code) == (401, 1008)
    assert error().detail.endswith(".")


@pytest.mark.process
def test_without_pyjwt_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['jwt'] = sys.modules['argon2'] = None\n"
        "import aiorest_ws.auth.exceptions, aiorest_ws.auth.permissions\n"
        "import aiorest_ws.auth.database\n"
        "import aiorest_ws.auth.token.exceptions, aiorest_ws.auth.token.backends\n"
        "import aiorest_ws.auth.user.abstractions as users, aiorest_ws.auth.user.models\n"
        "assert not users.User().is_authenticated()\n"
        "def fails(do):\n"
        "    try:\n"
        "        do()\n"
        "    except ImportError as exc:\n"
        "        print(exc)\n"
        "fails(lambda: __import__('aiorest_ws.auth.token.managers'))\n"
        "fails(lambda: __import__('aiorest_ws.auth.token.middlewares'))\n"
        "fails(lambda: users.User().check_password('x'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        'tokens need PyJWT; in a clone of aiorest-ws: pip install ".[auth]"',
        'tokens need PyJWT; in a clone of aiorest-ws: pip install ".[auth]"',
        'passwords need argon2-cffi; in a clone of aiorest-ws: pip install ".[auth]"',
    ]
