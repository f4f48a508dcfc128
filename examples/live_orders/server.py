"""Orders that everybody sees live, served by two processes that share topics on Redis."""

import argparse
import os
import sqlite3
from contextlib import closing

from aiorest_ws import (
    Application,
    BaseAPIException,
    Limits,
    MethodBasedView,
    Request,
    SimpleRouter,
)

router = SimpleRouter()

ITEMS = ("salt", "tea")
STATES = ("new", "paid", "sent")
COLUMNS = ("number", "version", "item", "quantity", "state")


class NoSuchOrder(BaseAPIException):
    default_detail = "There is no such order."
    status = 404


class InvalidOrder(BaseAPIException):
    default_detail = "An order has an item, salt or tea, and a quantity from 1 to 100."
    status = 422


class Database:
    """Orders in a file, which processes of one machine can share.

    Each change gives an order its next version. Two processes may publish in another order than
    they have written; by the version a client sees which is the newer one.
    """

    def __init__(self, path):
        self._path = path
        self._run(
            "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, version INTEGER,"
            " item TEXT, quantity INTEGER, state TEXT)"
        )

    def all(self):
        return self._run(f"SELECT {', '.join(COLUMNS)} FROM orders ORDER BY number")

    def add(self, item, quantity):
        (order,) = self._run(
            "INSERT INTO orders (version, item, quantity, state) VALUES (1, ?, ?, ?) RETURNING *",
            *(item, quantity, STATES[0]),
        )
        return order

    def change(self, number, state):
        changed = self._run(
            "UPDATE orders SET state = ?, version = version + 1 WHERE number = ? RETURNING *",
            *(state, number),
        )
        if not changed:
            raise NoSuchOrder
        return changed[0]

    def _run(self, statement, *values):
        # Each thread has a connection of its own; others are waited for.
        with closing(sqlite3.connect(self._path, timeout=20)) as connection, connection:
            rows = connection.execute(statement, values).fetchall()
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


class Orders(MethodBasedView):
    blocking = True

    def get(self, request: Request):
        return request.factory.database.all()

    def post(self, request: Request, item, quantity):
        if item not in ITEMS or type(quantity) is not int or not 1 <= quantity <= 100:
            raise InvalidOrder
        order = request.factory.database.add(item, quantity)
        request.factory.publish_from_thread("orders", order, wait_seconds=10)
        return order


class Order(MethodBasedView):
    blocking = True

    def put(self, request: Request, number, state):
        if state not in STATES or not number.isdecimal():
            raise NoSuchOrder
        order = request.factory.database.change(int(number), state)
        request.factory.publish_from_thread("orders", order, wait_seconds=10)
        return order


@router.get("/process")
def process(request: Request) -> int:
    """Tell which process serves this client."""
    return os.getpid()


router.register("/orders", Orders, methods=["GET", "POST"])
router.register("/orders/{number}", Order, methods="PUT")
router.register_topic("orders")
# Of prices only the latest of each item counts.
router.register_topic("prices", policy="latest", history=len(ITEMS))

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--page", default="http://127.0.0.1:8000", help="origin of index.html")
    parser.add_argument("--topics", default="redis://127.0.0.1:6379/0", help="URL of Redis")
    parser.add_argument("--database", default="orders.sqlite3", help="file for the orders")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    app = Application(
        router=router,
        topics=options.topics,
        limits=Limits(allowed_origins=(options.page,)),
    )

    @app.on_startup
    def open_database(factory):
        factory.database = Database(options.database)

    # Each worker runs this program again, from its first line on.
    app.run(port=options.port, workers=options.workers)
