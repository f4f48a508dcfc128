"""An order book that publishes each change."""

from aiorest_ws import (
    Application,
    BaseAPIException,
    MethodBasedView,
    Request,
    SimpleRouter,
)

# For each good and side, the size by price.
books = {"tea": {"buy": {}, "sell": {}}, "salt": {"buy": {}, "sell": {}}}


class NoSuchGood(BaseAPIException):
    default_detail = "There is no such good."
    status = 404


class InvalidOrder(BaseAPIException):
    default_detail = "An order has a side, buy or sell, a price and a size."
    status = 422


def book_of(good):
    if good not in books:
        raise NoSuchGood
    return books[good]


class Book(MethodBasedView):
    def get(self, request: Request, good):
        return book_of(good)


class Orders(MethodBasedView):
    async def post(self, request: Request, good, side, price, size):
        book = book_of(good)
        if side not in book or type(price) is not int or type(size) is not int:
            raise InvalidOrder
        total = max(0, book[side].pop(price, 0) + size)
        if total:
            book[side][price] = total
        level = {"side": side, "price": price, "size": total}
        await request.factory.publish(f"books/{good}", level)
        return level


def check_good(request: Request, topic):
    book_of(topic.removeprefix("books/"))
    return True


router = SimpleRouter()
router.register("/books/{good}", Book, methods="GET")
router.register("/books/{good}/orders", Orders, methods="POST")
router.register_topic("books/{good}", on_subscribe=check_good)

app = Application(router=router)

if __name__ == "__main__":
    app.run()
