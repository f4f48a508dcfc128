"""A database in memory, and its users."""

import pytest

from aiorest_ws.auth.database import Database
from aiorest_ws.auth.user.models import UserSQLiteModel


@pytest.fixture
def database():
    made = Database()
    yield made
    made.close()


@pytest.fixture
def users(database):
    return UserSQLiteModel(database)
