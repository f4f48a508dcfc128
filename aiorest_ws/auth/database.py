"""The SQLite database of users and stored tokens."""

import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from aiorest_ws.conf import settings
from aiorest_ws.exceptions import ImproperlyConfigured, ServiceUnavailable

__all__ = ("IN_MEMORY", "Database", "open_database")

IN_MEMORY = ":memory:"

# The tables of 1.1. With AUTOINCREMENT the id of a deleted user is never used again, so that their
# tokens never authenticate another user.
_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS aiorest_auth_user (
        id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
        username CHAR(255) NOT NULL,
        password CHAR(255) NOT NULL,
        first_name CHAR(255),
        last_name CHAR(255),
        email CHAR(255),
        is_active BOOL NOT NULL DEFAULT 1,
        is_superuser BOOL NOT NULL DEFAULT 0,
        is_staff BOOL NOT NULL DEFAULT 0,
        is_user BOOL NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS aiorest_auth_token (
        id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
        name CHAR(64) NOT NULL,
        token TEXT NOT NULL,
        created DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
        expired DATETIME,
        user_id INTEGER REFERENCES aiorest_auth_user (id)
    )
    """,
)
# Columns that a table of 1.1 may not have.
_LATER_COLUMNS = (
    ("aiorest_auth_user", "email", "CHAR(255)"),
    ("aiorest_auth_token", "user_id", "INTEGER REFERENCES aiorest_auth_user (id)"),
)
_INDEXES = (
    "CREATE UNIQUE INDEX IF NOT EXISTS aiorest_auth_user_username ON aiorest_auth_user (username)",
    "CREATE INDEX IF NOT EXISTS aiorest_auth_token_token ON aiorest_auth_token (token)",
)

# How long a statement waits for the lock of another process. The loop waits with it.
_LOCKED_SECONDS = 0.1
# The same while a server starts.
_LOCKED_SECONDS_AT_START = 5
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Database:
    """A connection with the tables of users and tokens, usable from any thread.

    Where the file system allows it, the file is in WAL mode: reading does not wait for another
    process that writes. What has to wait for longer than 100 ms raises `ServiceUnavailable`.
    Raises `ImproperlyConfigured` if the file cannot be used. The connection is closed when the
    object is garbage collected.
    """

    def __init__(self, path: str = IN_MEMORY) -> None:
        self._lock = threading.Lock()
        try:
            # Autocommit: each statement is a transaction of its own.
            self._connection = sqlite3.connect(
                path,
                timeout=_LOCKED_SECONDS_AT_START,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as exc:
            raise ImproperlyConfigured(f"the database {path!r} cannot be opened: {exc}") from exc
        self._connection.row_factory = sqlite3.Row
        self._close = weakref.finalize(self, self._connection.close)
        try:
            if not self._has_tables():
                self._make_tables()
            self._connection.execute(f"PRAGMA busy_timeout = {_LOCKED_SECONDS * 1000:.0f}")
        except sqlite3.Error as exc:
            self.close()
            raise ImproperlyConfigured(
                f"the database {path!r} cannot hold users and tokens: {exc}"
            ) from exc
        with suppress(sqlite3.OperationalError):  # a file that is read only, say
            self._connection.execute("PRAGMA journal_mode = WAL")

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return not self._close.alive

    def close(self) -> None:
        """Close the connection, for all users of this object; may be called again."""
        with self._lock:
            self._close()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement; return the number of rows that it changed."""
        with self._lock, _told_when_locked():
            return self._connection.execute(sql, parameters).rowcount

    def fetch_one(self, sql: str, parameters: Sequence[Any] = ()) -> dict[str, Any] | None:
        """Return the first row of a query by column name, or None if there is none."""
        with self._lock, _told_when_locked():
            cursor = self._connection.execute(sql, parameters)
            row = cursor.fetchone()
            cursor.close()
        return None if row is None else dict(row)

    def _has_tables(self) -> bool:
        sql = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'aiorest_auth_%'"
        (count,) = self._connection.execute(sql).fetchone()
        return count >= len(_TABLES) + len(_INDEXES) and not self._missing_columns()

    def _missing_columns(self) -> list[tuple[str, str, str]]:
        sql = "SELECT 1 FROM pragma_table_info(?) WHERE name = ?"
        return [
            (table, column, kind)
            for table, column, kind in _LATER_COLUMNS
            if self._connection.execute(sql, (table, column)).fetchone() is None
        ]

    def _make_tables(self) -> None:
        # One transaction: other processes may be doing the same.
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            for sql in _TABLES:
                self._connection.execute(sql)
            for table, column, kind in self._missing_columns():
                self._connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
            for sql in _INDEXES:
                self._connection.execute(sql)


@contextmanager
def _told_when_locked() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF not in _LOCKED:
            raise
        raise ServiceUnavailable from exc


# `:memory:` in the settings is one database per process, as in 1.1; it exists as long as it is
# referenced.
_shared_in_memory: weakref.WeakValueDictionary[str, Database] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def open_database() -> Database:
    """Open the database `DATABASES["default"]["name"]`; without DATABASES a private one."""
    if not settings.DATABASES:
        return Database()
    options = settings.DATABASES.get("default", {})
    name = options.get("name")
    if not isinstance(name, str) or not name:
        raise ImproperlyConfigured('DATABASES must have ["default"]["name"], the path of a file')
    if name != IN_MEMORY:
        return Database(name)
    with _shared_lock:
        database = _shared_in_memory.get(name)
        if database is None or database.is_closed:
            database = _shared_in_memory[name] = Database()
        return database
