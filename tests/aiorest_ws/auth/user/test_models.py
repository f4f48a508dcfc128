"""Users, their passwords, and the database that keeps them."""

import gc
import hashlib
import importlib
import sqlite3
import sys
import threading
from contextlib import closing

import argon2
import pytest

from aiorest_ws.auth.database import Database, open_database
from aiorest_ws.auth.exceptions import BaseAuthException, PermissionDeniedException
from aiorest_ws.auth.token.backends import InMemoryTokenBackend
from aiorest_ws.auth.user import passwords
from aiorest_ws.auth.user.abstractions import AbstractUser, User
from aiorest_ws.auth.user.exceptions import (
    DuplicateUsername,
    NotEnoughArguments,
    RequiredModelFieldsNotDefined,
    SearchCriteriaRequired,
)
from aiorest_ws.auth.user.models import UserSQLiteModel
from aiorest_ws.auth.user.passwords import hash_password
from aiorest_ws.exceptions import BaseAPIException, ImproperlyConfigured
from aiorest_ws.test.utils import override_settings


def sha256_of_1_1(password):
    return hashlib.sha256(password.encode()).hexdigest()


@pytest.fixture
def database():
    made = Database()
    yield made
    made.close()


@pytest.fixture
def users(database):
    return UserSQLiteModel(database)


# User


def test_the_user_without_anything_is_anonymous():
    user = User()
    assert (user.id, user.username, user.password, user.email) == (None, "", "", "")
    assert (user.first_name, user.last_name, user.get_fullname()) == ("", "", "")
    assert user.permissions == []
    assert user.is_active
    assert user.is_anonymous
    assert not user.is_authenticated()
    assert (user.is_superuser, user.is_staff, user.is_user) == (False, False, False)


@pytest.mark.parametrize("role", ["is_superuser", "is_staff", "is_user"])
@pytest.mark.parametrize("kind", [AbstractUser, User])
def test_a_role_makes_a_user_known(kind, role):
    user = kind(**{role: True})
    assert getattr(user, role) is True
    assert not user.is_anonymous
    assert user.is_authenticated() is True


def test_roles_cannot_be_changed_on_a_user():
    for name in ("is_superuser", "is_staff", "is_user", "is_anonymous", "id"):
        with pytest.raises(AttributeError):
            setattr(User(), name, True)


@pytest.mark.parametrize(
    ("names", "full"),
    [(("Anna", "Berg"), "Anna Berg"), (("Anna", ""), "Anna"), (("", "Berg"), "Berg")],
)
def test_full_name(names, full):
    assert User(first_name=names[0], last_name=names[1]).get_fullname() == full


def test_what_a_user_is_can_be_changed():
    user = User(id=3, username="anna", email="a@b.c", first_name="A")
    user.username, user.email, user.is_active, user.permissions = "ben", "d@e.f", False, ["x"]
    assert (user.id, user.username, user.email) == (3, "ben", "d@e.f")
    assert (user.is_active, user.permissions) == (False, ["x"])


def test_permissions_are_a_list_of_the_users_own():
    given = ["read"]
    first, second = User(permissions=given), User()
    first.permissions.append("write")
    assert (given, second.permissions, User().permissions) == (["read"], [], [])
    assert first.has_permission("write")
    assert not first.has_permission("delete")
    assert not second.has_permission()


def test_an_inactive_user_has_no_permission():
    assert not User(permissions=["read"], is_active=False).has_permission("read")


def test_unknown_keywords_are_refused():
    for kind in (AbstractUser, User):
        with pytest.raises(TypeError, match="is_suoeruser"):
            kind(is_suoeruser=True)


def test_repr_shows_no_password():
    user = User(username="anna", password="the-hash")
    assert repr(user) == "<User 'anna'>"


# Passwords


def test_a_password_is_hashed_with_argon2id_and_salt():
    first, second = User(), User()
    first.password = second.password = "correct horse"
    assert first.password.startswith("$argon2id$")
    assert first.password != second.password
    assert argon2.PasswordHasher().verify(first.password, "correct horse")


@pytest.mark.parametrize(
    ("stored", "password", "right"),
    [
        (hash_password("pässword"), "pässword", True),
        (hash_password("pässword"), "password", False),
        (hash_password("pässword"), "", False),
        (sha256_of_1_1("old"), "old", True),
        (sha256_of_1_1("old"), "Old", False),
        (sha256_of_1_1("old"), sha256_of_1_1("old"), False),
        ("", "", False),
        ("", "password", False),
        ("plain", "plain", False),
        ("$argon2id$broken", "password", False),
        ("$argon2x$broken", "password", False),
        ("ö" * 64, "password", False),
        (hash_password("x"), "\udc80", False),
        (hash_password("None"), None, False),
        (hash_password("1"), 1, False),
    ],
)
def test_check_password(stored, password, right):
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


# The model


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


# The database


def test_models_without_settings_keep_to_themselves():
    first, second = UserSQLiteModel(), UserSQLiteModel()
    first.create_user(username="anna", password="p")
    assert second.get_user_by_username("anna").username == ""
    for model in (first, second):
        model.close()
        model.close()
    with pytest.raises(sqlite3.ProgrammingError):
        first.get_user_by_username("anna")


def test_the_file_of_the_settings_keeps_users_and_tokens(tmp_path):
    name = str(tmp_path / "users.sqlite")
    with override_settings(DATABASES={"default": {"name": name}}):
        first, second = UserSQLiteModel(), UserSQLiteModel()
        first.create_user(username="anna", password="p")
        assert second.get_user_by_username("anna", with_id=True).id == 1
        first.close()
        second.close()
        third, tokens = UserSQLiteModel(), InMemoryTokenBackend()
        tokens.save("api", "abc", user_id=1)
        assert tokens.get_token_by_username("api", "anna")["token"] == "abc"
        third.close()
        tokens.close()


def test_memory_named_in_the_settings_is_one_database():
    with override_settings(DATABASES={"default": {"name": ":memory:"}}):
        users, tokens = UserSQLiteModel(), InMemoryTokenBackend()
        assert users.database is tokens.database
        users.create_user(username="anna", password="p")
        assert UserSQLiteModel().get_user_by_username("anna").username == "anna"
        users.close()
        anew = UserSQLiteModel()
        assert anew.get_user_by_username("anna").username == ""
        del users, tokens, anew
        gc.collect()
        again = UserSQLiteModel()
        assert again.get_user_by_username("anna").username == ""
        again.close()


@pytest.mark.parametrize(
    "databases",
    [{"other": {}}, {"default": {}}, {"default": {"name": ""}}, {"default": {"NAME": "x"}}],
)
def test_settings_that_name_no_file_are_refused(databases):
    with override_settings(DATABASES=databases), pytest.raises(ImproperlyConfigured, match="name"):
        open_database()


def test_a_file_that_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="cannot be opened"):
        Database(str(tmp_path / "no" / "such.sqlite"))
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(ImproperlyConfigured, match="cannot hold"):
        Database(str(tmp_path / "text"))


TABLES_OF_1_1 = """
    CREATE TABLE aiorest_auth_token (id INTEGER PRIMARY KEY NOT NULL, name CHAR(64) NOT NULL,
        token TEXT NOT NULL, created DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
        expired DATETIME DEFAULT NULL);
    CREATE TABLE aiorest_auth_user (id INTEGER PRIMARY KEY NOT NULL, username CHAR(255) NOT NULL,
        password CHAR(255) NOT NULL, last_name CHAR(255), first_name CHAR(255),
        is_active BOOL DEFAULT TRUE NOT NULL, is_superuser BOOL DEFAULT FALSE NOT NULL,
        is_staff BOOL DEFAULT FALSE NOT NULL, is_user BOOL DEFAULT TRUE NOT NULL);
"""


def test_a_file_of_1_1_goes_on_working(tmp_path):
    name = str(tmp_path / "old.sqlite")
    with closing(sqlite3.connect(name)) as old:
        old.executescript(TABLES_OF_1_1)
        sql = "INSERT INTO aiorest_auth_user (username, password) VALUES ('anna', ?)"
        old.execute(sql, (sha256_of_1_1("old"),))
        old.commit()
    for _ in range(2):
        database = Database(name)
        users, tokens = UserSQLiteModel(database), InMemoryTokenBackend(database)
        user = users.get_user_by_username("anna", with_id=True)
        assert (user.id, user.first_name, user.email, user.is_user) == (1, "", "", True)
        assert user.check_password("old")
        assert user.password.startswith("$argon2id$")
        tokens.save("api", "abc", user_id=user.id)
        assert users.get_user_by_token(tokens.get("abc")).username == "anna"
        with pytest.raises(DuplicateUsername):
            users.create_user(username="anna", password="p")
        database.close()


def test_a_file_with_one_name_twice_is_refused(tmp_path):
    name = str(tmp_path / "old.sqlite")
    with closing(sqlite3.connect(name)) as old:
        old.executescript(TABLES_OF_1_1)
        sql = "INSERT INTO aiorest_auth_user (username, password) VALUES ('anna', '')"
        old.execute(sql)
        old.execute(sql)
        old.commit()
    with pytest.raises(ImproperlyConfigured, match="username"):
        Database(name)


def test_threads_may_share_a_model(users):
    users.create_user(username="anna", password="p", is_user=True)
    seen = []

    def work():
        for number in range(50):
            users.update_user(username="anna", first_name=str(number))
            seen.append(users.get_user_by_username("anna").username)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == ["anna"] * 200


def test_a_database_nobody_holds_is_closed(monkeypatch):
    made = []
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, **k: made.append(connect(*a, **k)) or made[0]
    )
    model = UserSQLiteModel()
    made[0].execute("SELECT 1")
    del model
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


def test_errors_of_authentication_are_403():
    for error in (BaseAuthException, PermissionDeniedException):
        assert issubclass(error, BaseAPIException)
        assert (error().status, error().status_code) == (403, 1008)
