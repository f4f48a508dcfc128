"""Storage of issued tokens."""

from datetime import UTC, datetime
from typing import Any

from aiorest_ws.auth.database import Database, open_database

__all__ = ("InMemoryTokenBackend", "expires_at")

_COLUMNS = "t.id, t.name, t.token, t.created, t.expired, t.user_id"


class InMemoryTokenBackend:
    """Stores tokens in SQLite: in memory, or in the file `DATABASES["default"]["name"]`.

    Without `DATABASES` each backend has a database of its own, unless it gets one as an argument.
    A stored token is a dictionary with the keys id, name, token, created, expired and user_id.
    """

    def __init__(self, database: Database | None = None) -> None:
        self.database = open_database() if database is None else database

    def get(self, token: str) -> dict[str, Any]:
        """Return the last saved row of a token, or {}."""
        sql = f"SELECT {_COLUMNS} FROM aiorest_auth_token t WHERE t.token = ? ORDER BY t.id DESC"  # noqa: S608
        return self.database.fetch_one(sql, (token,)) or {}

    def get_token_by_username(self, token_name: str, username: str) -> dict[str, Any]:
        """Return the newest token of this name of a user, or {}."""
        sql = f"""
            SELECT {_COLUMNS} FROM aiorest_auth_token t
            JOIN aiorest_auth_user u ON u.id = t.user_id
            WHERE t.name = ? AND u.username = ? ORDER BY t.id DESC
        """  # noqa: S608
        return self.database.fetch_one(sql, (token_name, username)) or {}

    def save(
        self,
        token_name: str,
        token: str,
        expired: datetime | float | str | None = None,
        user_id: int | None = None,
    ) -> None:
        """Store a token.

        `expired` ends its validity whatever the token itself says: seconds since the epoch, a
        datetime, or one in ISO format (UTC without a time zone). Raises `ValueError` for an
        invalid one, and for a token of another user: the tokens of two users must differ (add
        `sub` or `jti`), or one token would authenticate both.
        """
        if isinstance(expired, str):
            try:
                expired = datetime.fromisoformat(expired)
            except ValueError as exc:
                raise ValueError(f"`expired` must be a time in ISO form, not {expired!r}") from exc
        if isinstance(expired, datetime):
            # SQLite's own form; sqlite3's adapter for datetimes is deprecated.
            expired = expired.isoformat(" ")
        sql = """
            INSERT INTO aiorest_auth_token (name, token, expired, user_id) SELECT ?, ?, ?, ?
            WHERE NOT EXISTS (
                SELECT 1 FROM aiorest_auth_token WHERE token = ? AND user_id IS NOT ?
            )
        """
        if not self.database.execute(sql, (token_name, token, expired, user_id, token, user_id)):
            raise ValueError("this token belongs to another user")

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def expires_at(expired: float | str | None) -> float | None:
    """Return the expiry of a stored token in seconds since the epoch, or None."""
    if not isinstance(expired, str):
        return expired
    moment = datetime.fromisoformat(expired)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
