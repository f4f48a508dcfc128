"""The store of tokens."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from aiorest_ws.auth.token.backends import InMemoryTokenBackend, expires_at
from aiorest_ws.auth.user.models import UserSQLiteModel


@pytest.fixture
def backend(database):
    return InMemoryTokenBackend(database)


def test_a_saved_token_is_found(backend):
    backend.save("api", "abc", user_id=None)
    found = backend.get("abc")
    created = datetime.fromisoformat(found.pop("created")).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=1)
    assert found == {"id": 1, "name": "api", "token": "abc", "expired": None, "user_id": None}


def test_an_unknown_token_is_an_empty_dict(backend):
    backend.save("api", "abc")
    assert backend.get("ABC") == backend.get("") == backend.get("' OR 1=1 --") == {}


@pytest.mark.slow
def test_tokens_are_found_by_name_and_user(backend, database):
    users = UserSQLiteModel(database)
    for name in ("anna", "ben"):
        users.create_user(username=name, password="p")
    ids = {name: users.get_user_by_username(name, with_id=True).id for name in ("anna", "ben")}
    backend.save("api", "a-old", None, ids["anna"])
    backend.save("api", "a-new", None, ids["anna"])
    backend.save("admin", "a-admin", None, ids["anna"])
    backend.save("api", "b", None, ids["ben"])
    backend.save("api", "nobody's")

    def found(name, user):
        return backend.get_token_by_username(name, user).get("token")

    assert found("api", "anna") == "a-new"
    assert found("admin", "anna") == "a-admin"
    assert found("api", "ben") == "b"
    assert found("admin", "ben") is None
    assert found("api", "carl") is None
    assert found("api", "' OR 1=1 --") is None
    assert backend.get_token_by_username("admin", "ben") == {}


def test_one_token_never_belongs_to_two_users(backend):
    backend.save("api", "same", user_id=1)
    for user_id in (2, None):
        with pytest.raises(ValueError, match="another user"):
            backend.save("api", "same", user_id=user_id)
    backend.save("renamed", "same", user_id=1)
    assert (backend.get("same")["user_id"], backend.get("same")["name"]) == (1, "renamed")


@pytest.mark.parametrize(
    ("expired", "stored", "seconds"),
    [
        (None, None, None),
        (1700000000, 1700000000, 1700000000),
        (1700000000.5, 1700000000.5, 1700000000.5),
        ("2023-11-14 22:13:20", "2023-11-14 22:13:20", 1700000000),
        ("2023-11-14T22:13:20Z", "2023-11-14 22:13:20+00:00", 1700000000),
        ("20231114T221320", "2023-11-14 22:13:20", 1700000000),
        ("20231114", "2023-11-14 00:00:00", 1699920000),
        (datetime(2023, 11, 14, 22, 13, 20), "2023-11-14 22:13:20", 1700000000),  # noqa: DTZ001
        (
            datetime(2023, 11, 15, 0, 13, 20, tzinfo=timezone(timedelta(hours=2))),
            "2023-11-15 00:13:20+02:00",
            1700000000,
        ),
    ],
)
def test_the_end_of_a_stored_token(backend, expired, stored, seconds):
    backend.save("api", "abc", expired)
    assert backend.get("abc")["expired"] == stored
    assert expires_at(stored) == seconds


def test_an_end_that_cannot_be_read_is_refused(backend):
    with pytest.raises(ValueError, match="must be a time in ISO form, not 'tomorrow'"):
        backend.save("api", "abc", "tomorrow")
    assert backend.get("abc") == {}


def test_a_backend_without_database_settings_keeps_to_itself():
    first, second = InMemoryTokenBackend(), InMemoryTokenBackend()
    first.save("api", "abc")
    assert second.get("abc") == {}
    first.close()
    second.close()
