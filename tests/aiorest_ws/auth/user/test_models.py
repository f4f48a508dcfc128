"""The model that stores users."""

import pytest

from aiorest_ws.auth.user.exceptions import (
    DuplicateUsername,
    NotEnoughArguments,
    RequiredModelFieldsNotDefined,
    SearchCriteriaRequired,
)
from aiorest_ws.exceptions import BaseAPIException
from support.old_passwords import sha256_of_1_1

pytestmark = pytest.mark.slow


def test_a_user_is_stored_and_found(users):
    users.create_user(
        username="anna",
        password="secret",
        first_name="Anna",
        last_name="Berg",
        email="a@b.c",
        is_user=True,
    )
    user = users.get_user_by_username("anna")
    assert (user.username, user.get_fullname(), user.email) == ("anna", "Anna Berg", "a@b.c")
    assert (user.is_user, user.is_staff, user.is_superuser) == (True, False, False)
    assert user.is_active is True
    assert user.is_authenticated()
    assert user.check_password("secret")
    assert "secret" not in user.password
    assert user.id is None
    assert users.get_user_by_username("anna", with_id=True).id == 1


def test_a_user_without_a_role_is_not_authenticated(users):
    users.create_user(username="anna", password="secret")
    assert not users.get_user_by_username("anna").is_authenticated()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"username": "anna"},
        {"password": "secret"},
        {"username": "", "password": "secret"},
        {"username": "anna", "password": ""},
        {"username": None, "password": "secret"},
        {"username": ["anna"], "password": "secret"},
        {"username": "anna", "password": 5},
    ],
)
def test_a_name_and_a_password_are_required(users, fields):
    with pytest.raises(RequiredModelFieldsNotDefined):
        users.create_user(**fields)
    assert users.database.fetch_one("SELECT count(*) AS n FROM aiorest_auth_user") == {"n": 0}


def test_unknown_fields_are_refused(users):
    with pytest.raises(TypeError, match="is_root"):
        users.create_user(username="anna", password="p", is_root=True)
    with pytest.raises(TypeError, match="id"):
        users.update_user(username="anna", id=5)


def test_a_name_is_given_once(users):
    users.create_user(username="anna", password="first", is_user=True)
    with pytest.raises(DuplicateUsername) as refused:
        users.create_user(username="anna", password="second", is_superuser=True)
    assert isinstance(refused.value, BaseAPIException)
    assert (refused.value.status, refused.value.detail) == (409, "This username is taken.")
    user = users.get_user_by_username("anna")
    assert user.check_password("first")
    assert not user.is_superuser
    users.create_user(username="Anna", password="another")


@pytest.mark.parametrize("name", ["nobody", "", None, 5, ["anna"], "' OR '1'='1", "anna' --"])
def test_nobody_is_the_anonymous_user(users, name):
    users.create_user(username="anna", password="p", is_user=True)
    user = users.get_user_by_username(name, with_id=True)
    assert (user.username, user.id, user.is_anonymous) == ("", None, True)


def test_sql_in_values_is_only_text(users):
    name = "x'; DROP TABLE aiorest_auth_user; --"
    users.create_user(username=name, password="p", first_name=name)
    users.update_user(username=name, last_name="'); --")
    user = users.get_user_by_username(name)
    assert (user.username, user.first_name, user.last_name) == (name, name, "'); --")


def test_what_is_given_is_updated(users):
    for name in ("anna", "ben"):
        users.create_user(username=name, password="p", is_user=True, first_name="X")
    before = users.get_user_by_username("ben")
    users.update_user(
        username="anna",
        first_name="Anna",
        last_name="",
        email="a@b.c",
        is_active=False,
        is_superuser=True,
        is_staff=True,
        is_user=False,
    )
    user = users.get_user_by_username("anna")
    assert (user.first_name, user.last_name, user.email) == ("Anna", "", "a@b.c")
    assert (user.is_active, user.is_superuser, user.is_staff) == (False, True, True)
    assert user.is_user is False
    assert user.check_password("p")
    after = users.get_user_by_username("ben")
    assert (after.first_name, after.password) == ("X", before.password)


def test_a_password_is_updated_as_a_hash(users):
    users.create_user(username="anna", password="old")
    users.update_user(username="anna", password="new")
    user = users.get_user_by_username("anna")
    assert user.password.startswith("$argon2id$")
    assert user.check_password("new")
    assert not user.check_password("old")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, SearchCriteriaRequired),
        ({"first_name": "A"}, SearchCriteriaRequired),
        ({"username": ""}, SearchCriteriaRequired),
        ({"username": ["anna"], "first_name": "A"}, SearchCriteriaRequired),
        ({"username": "anna"}, NotEnoughArguments),
        ({"username": "anna", "password": ""}, RequiredModelFieldsNotDefined),
    ],
)
def test_an_update_says_whom_and_what(users, fields, error):
    with pytest.raises(error) as refused:
        users.update_user(**fields)
    assert refused.value.status == 400


def test_an_old_hash_in_the_database_is_replaced_on_login(users, database):
    users.create_user(username="anna", password="x")
    old = sha256_of_1_1("old")
    database.execute("UPDATE aiorest_auth_user SET password = ?", (old,))
    assert not users.get_user_by_username("anna").check_password("wrong")
    assert users.get_user_by_username("anna").password == old
    assert users.get_user_by_username("anna").check_password("old")
    stored = users.get_user_by_username("anna")
    assert stored.password.startswith("$argon2id$")
    assert stored.check_password("old")


def test_a_password_changed_meanwhile_is_not_overwritten_by_the_new_hash(users, database):
    users.create_user(username="anna", password="x")
    database.execute("UPDATE aiorest_auth_user SET password = ?", (sha256_of_1_1("old"),))
    logging_in = users.get_user_by_username("anna")
    users.update_user(username="anna", password="new")
    assert logging_in.check_password("old")
    assert users.get_user_by_username("anna").check_password("new")


def test_a_user_is_found_by_a_stored_token(users, database):
    users.create_user(username="anna", password="p", is_user=True)
    users.create_user(username="ben", password="p", is_user=True)
    user = users.get_user_by_token({"user_id": 2})
    assert (user.id, user.username) == (2, "ben")
    for token in ({"user_id": 3}, {"user_id": None}, {}):
        assert users.get_user_by_token(token).is_anonymous


def test_the_id_of_a_deleted_user_is_not_given_again(users):
    users.create_user(username="anna", password="p", is_user=True)
    assert users.delete_user("anna") is True
    assert users.delete_user("anna") is False
    users.create_user(username="eve", password="p", is_user=True)
    assert users.get_user_by_username("eve", with_id=True).id == 2
    assert users.get_user_by_token({"user_id": 1}).is_anonymous
