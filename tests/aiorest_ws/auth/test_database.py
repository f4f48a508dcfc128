"""The database of users and tokens."""

import gc
import json
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import pytest
import pytest_twisted

from aiorest_ws.auth.database import Database, open_database
from aiorest_ws.auth.exceptions import BaseAuthException, PermissionDeniedException
from aiorest_ws.auth.token.backends import InMemoryTokenBackend
from aiorest_ws.auth.token.middlewares import BaseTokenMiddleware
from aiorest_ws.auth.user.exceptions import DuplicateUsername
from aiorest_ws.auth.user.models import UserSQLiteModel
from aiorest_ws.exceptions import BaseAPIException, ImproperlyConfigured, ServiceUnavailable
from aiorest_ws.test.utils import override_settings
from support.old_passwords import sha256_of_1_1
from support.routers import failure, router_of, success

pytestmark = pytest.mark.slow


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


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(name, *statements):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, name, *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()
    assert process.returncode == 0


WRITING = {
    "writes": ("BEGIN IMMEDIATE",),
    "writes alone": ("BEGIN EXCLUSIVE",),
    "has written": ("BEGIN IMMEDIATE", "UPDATE aiorest_auth_user SET username = 'eve'"),
}


@pytest.mark.process
@pytest.mark.parametrize("state", WRITING)
def test_looking_up_does_not_wait_for_a_process_that_writes(tmp_path, state):
    name = str(tmp_path / "users.sqlite")
    database = Database(name)
    users, tokens = UserSQLiteModel(database), InMemoryTokenBackend(database)
    users.create_user(username="anna", password="p")
    tokens.save("api", "abc", user_id=1)
    with held_by_another_process(name, *WRITING[state]):
        assert users.get_user_by_username("anna").username == "anna"
        assert users.get_user_by_token(tokens.get("abc")).username == "anna"
        with pytest.raises(ServiceUnavailable):
            tokens.save("api", "def", user_id=1)
    tokens.save("api", "def", user_id=1)
    database.close()


@pytest.mark.process
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_call_that_finds_the_database_locked_is_answered_with_503(network, tmp_path):
    class ByStoredToken(BaseTokenMiddleware):
        def init_credentials(self, request):
            request.user = users.get_user_by_token(tokens.get(request.token))

    name = str(tmp_path / "users.sqlite")
    database = Database(name)
    users, tokens = UserSQLiteModel(database), InMemoryTokenBackend(database)
    users.create_user(username="anna", password="p")
    tokens.save("api", "abc", user_id=1)
    # WAL needs the memory of one machine; elsewhere whoever writes locks readers out.
    database.execute("PRAGMA journal_mode = DELETE")
    router = router_of(lambda request: request.user.username, middlewares=[ByStoredToken()])
    client = await network.connect(await network.serve(router))
    call = {"method": "GET", "url": "/x", "token": "abc"}
    with held_by_another_process(name, "BEGIN EXCLUSIVE"):
        refused = json.loads(await client.ask(call))
        assert refused == failure(503, "The server is busy, try again later.")
    assert json.loads(await client.ask(call)) == success("anna")
    database.close()


MAKE = """
import sys
from aiorest_ws.auth.database import Database
print("ready", flush=True)
sys.stdin.read()
Database(sys.argv[1]).close()
"""


@pytest.mark.process
def test_processes_that_bring_an_old_file_up_to_date_at_once_agree(tmp_path):
    name = str(tmp_path / "old.sqlite")
    with closing(sqlite3.connect(name)) as old:
        old.executescript(TABLES_OF_1_1)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [
        subprocess.Popen([sys.executable, "-c", MAKE, name], text=True, **pipes) for _ in range(4)
    ]
    for process in processes:
        process.stdout.readline()
    with closing(sqlite3.connect(name, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        for process in processes:
            process.stdin.close()
        time.sleep(0.3)  # they wait for the lock, mostly, and get it one after the other
        holder.execute("COMMIT")
    for process in processes:
        with process:
            assert process.stderr.read() == ""
        assert process.returncode == 0


def test_a_file_that_is_up_to_date_is_opened_while_another_process_writes(tmp_path):
    name = str(tmp_path / "users.sqlite")
    Database(name).close()
    with closing(sqlite3.connect(name, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        database = Database(name)
        assert UserSQLiteModel(database).get_user_by_username("anna").username == ""
        database.close()
