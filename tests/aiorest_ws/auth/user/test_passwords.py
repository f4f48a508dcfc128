"""Password hashes."""

import importlib
import sys

import argon2
import pytest

from aiorest_ws.auth.user import passwords
from aiorest_ws.auth.user.abstractions import User
from aiorest_ws.auth.user.passwords import hash_password
from support.old_passwords import sha256_of_1_1

pytestmark = pytest.mark.slow


def test_a_password_is_hashed_with_argon2id_and_salt():
    first, second = User(), User()
    first.password = second.password = "correct horse"
    assert first.password.startswith("$argon2id$")
    assert first.password != second.password
    assert argon2.PasswordHasher().verify(first.password, "correct horse")


@pytest.mark.parametrize(
    ("stored", "password", "right"),
    [
        (lambda: hash_password("pässword"), "pässword", True),
        (lambda: hash_password("pässword"), "password", False),
        (lambda: hash_password("pässword"), "", False),
        (sha256_of_1_1("old"), "old", True),
        (sha256_of_1_1("old"), "Old", False),
        (sha256_of_1_1("old"), sha256_of_1_1("old"), False),
        ("", "", False),
        ("", "password", False),
        ("plain", "plain", False),
        ("$argon2id$broken", "password", False),
        ("$argon2x$broken", "password", False),
        ("ö" * 64, "password", False),
        (lambda: hash_password("x"), "\udc80", False),
        (lambda: hash_password("None"), None, False),
        (lambda: hash_password("1"), 1, False),
    ],
)
def test_check_password(stored, password, right):
    stored = stored() if callable(stored) else stored  # Argon2 takes its time: not at collection
    user = User(password=stored)
    assert user.check_password(password) is right
    if not right:
        assert user.password == stored


def test_no_user_costs_as_much_as_a_wrong_password(monkeypatch):
    """Count hash computations, which are what takes time."""
    stored = hash_password("x")
    counted = []
    for name in ("hash", "verify"):
        real = getattr(argon2.PasswordHasher, name)

        def counting(self, *args, real=real, name=name, **kwargs):
            counted.append(name)
            return real(self, *args, **kwargs)

        monkeypatch.setattr(argon2.PasswordHasher, name, counting)
    assert not User(password=stored).check_password("y")
    assert not User().check_password("y")
    assert not User(password=sha256_of_1_1("x")).check_password("y")
    assert counted == ["verify", "hash", "hash"]


def test_an_old_hash_is_made_anew_when_the_password_is_right():
    user = User(password=sha256_of_1_1("old"))
    assert user.check_password("old")
    assert user.password.startswith("$argon2id$")
    assert user.check_password("old")
    assert not user.check_password("older")


def test_weaker_argon2_is_made_anew():
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x")
    user = User(password=weak)
    handed = []
    user.on_rehash = lambda old, new: handed.append((old, new))
    assert not user.check_password("y")
    assert handed == []
    assert user.check_password("x")
    assert handed == [(weak, user.password)]
    assert user.check_password("x")
    assert len(handed) == 1


def test_without_argon2_hashing_names_the_extra(monkeypatch):
    # A fresh copy of the module: this one may have made its hasher already.
    monkeypatch.setitem(sys.modules, "argon2", None)
    monkeypatch.delitem(sys.modules, passwords.__name__)
    monkeypatch.setattr(passwords.__name__, passwords)
    fresh = importlib.import_module(passwords.__name__)
    assert fresh is not passwords
    with pytest.raises(ImportError, match=r'pip install "\.\[auth\]"') as refused:
        fresh.hash_password("x")
    assert refused.value.name == "argon2"
