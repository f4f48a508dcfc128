"""Users in SQLite."""

import sqlite3
from typing import Any

from aiorest_ws.auth.database import Database, open_database
from aiorest_ws.auth.user.abstractions import User
from aiorest_ws.auth.user.exceptions import (
    DuplicateUsername,
    NotEnoughArguments,
    RequiredModelFieldsNotDefined,
    SearchCriteriaRequired,
)
from aiorest_ws.auth.user.passwords import hash_password

__all__ = ("UserSQLiteModel",)

_FLAGS = ("is_active", "is_superuser", "is_staff", "is_user")
_SELECT = """
    SELECT id, username, password, first_name, last_name, email,
           is_active, is_superuser, is_staff, is_user
    FROM aiorest_auth_user
"""


class UserSQLiteModel:
    """Stores users in SQLite: in the file `DATABASES["default"]["name"]`, or in memory.

    Without `DATABASES` each model has a database of its own, unless it gets one as an argument.
    """

    def __init__(self, database: Database | None = None) -> None:
        self.database = open_database() if database is None else database

    def create_user(
        self,
        *,
        username: str = "",
        password: str = "",
        first_name: str = "",
        last_name: str = "",
        email: str = "",
        is_active: bool = True,
        is_superuser: bool = False,
        is_staff: bool = False,
        is_user: bool = False,
    ) -> None:
        """Store a new user.

        A user without a role (`is_user`, `is_staff` or `is_superuser`) is never authenticated.
        Hashing takes tens of milliseconds: use a blocking view.
        """
        if not _is_text(username) or not _is_text(password):
            raise RequiredModelFieldsNotDefined()
        try:
            self.database.execute(
                "INSERT INTO aiorest_auth_user (username, password, first_name, last_name, email,"
                " is_active, is_superuser, is_staff, is_user) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    username,
                    hash_password(password),
                    first_name,
                    last_name,
                    email,
                    is_active,
                    is_superuser,
                    is_staff,
                    is_user,
                ),
            )
        except sqlite3.IntegrityError as exc:
            raise DuplicateUsername() from exc

    def update_user(
        self,
        *,
        username: str = "",
        password: str | None = None,
        first_name: str | None = None,
        last_name: str | None = None,
        email: str | None = None,
        is_active: bool | None = None,
        is_superuser: bool | None = None,
        is_staff: bool | None = None,
        is_user: bool | None = None,
    ) -> None:
        """Change the given fields of a user; do nothing for an unknown username."""
        if not _is_text(username):
            raise SearchCriteriaRequired()
        fields = {
            "first_name": first_name,
            "last_name": last_name,
            "email": email,
            "is_active": is_active,
            "is_superuser": is_superuser,
            "is_staff": is_staff,
            "is_user": is_user,
        }
        changed: dict[str, Any] = {
            name: value for name, value in fields.items() if value is not None
        }
        if password is not None:
            if not _is_text(password):
                raise RequiredModelFieldsNotDefined()
            changed["password"] = hash_password(password)
        if not changed:
            raise NotEnoughArguments()
        # The names of columns are those above; only the values are user input.
        assignments = ", ".join(f"{name} = ?" for name in changed)
        self.database.execute(
            f"UPDATE aiorest_auth_user SET {assignments} WHERE username = ?",  # noqa: S608
            (*changed.values(), username),
        )

    def delete_user(self, username: str) -> bool:
        """Delete a user, whose tokens are refused from now on; tell whether there was one."""
        sql = "DELETE FROM aiorest_auth_user WHERE username = ?"
        return self.database.execute(sql, (username,)) > 0

    def get_user_by_username(self, username: str, with_id: bool = False) -> User:
        """Return a user, or the anonymous user for an unknown username."""
        if not _is_text(username):
            return User()
        row = self.database.fetch_one(f"{_SELECT} WHERE username = ?", (username,))
        return self._user(row, with_id=with_id)

    def get_user_by_token(self, token: dict[str, Any]) -> User:
        """Return the user of a stored token, a row of `InMemoryTokenBackend.get`.

        Returns the anonymous user if the user does not exist.
        """
        row = self.database.fetch_one(f"{_SELECT} WHERE id = ?", (token.get("user_id"),))
        return self._user(row, with_id=True)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def _user(self, row: dict[str, Any] | None, *, with_id: bool) -> User:
        if row is None:
            return User()
        user_id = row.pop("id")
        for name in ("first_name", "last_name", "email"):
            row[name] = row[name] or ""
        for name in _FLAGS:
            row[name] = bool(row[name])
        user = User(id=user_id if with_id else None, **row)

        def keep_hash(old: str, new: str) -> None:
            # Not if the password has been changed meanwhile.
            self.database.execute(
                "UPDATE aiorest_auth_user SET password = ? WHERE id = ? AND password = ?",
                (new, user_id, old),
            )

        user.on_rehash = keep_hash
        return user


def _is_text(value: Any) -> bool:
    # Names and passwords may come from clients, which send any JSON.
    return isinstance(value, str) and value != ""
