"""A reply of what a client may see of a row."""

from msgspec import Struct

from aiorest_ws import Application, Request, SimpleRouter
from aiorest_ws.exceptions import NotFound

router = SimpleRouter(prefix="/users")


class UserRow:
    """As your ORM makes them."""

    def __init__(self, number: int, name: str, password_hash: str) -> None:
        self.id = number
        self.name = name
        self.password_hash = password_hash


rows = {1: UserRow(1, "Ada", "$argon2id$...")}


class User(Struct):
    id: int
    name: str


@router.get("/{number}")
def read(request: Request, number: int) -> User:
    if number not in rows:
        raise NotFound
    return rows[number]  # type: ignore[return-value]


app = Application(router=router)
