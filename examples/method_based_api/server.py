"""Classes as views: a method for each word that a URL answers."""

import argparse
import itertools

from aiorest_ws import (
    Application,
    BaseAPIException,
    Limits,
    MethodBasedView,
    Request,
    SimpleRouter,
)
from aiorest_ws.renderers import JSONRenderer, XMLRenderer

notes = {}
numbers = itertools.count(1)


class NoSuchNote(BaseAPIException):
    default_detail = "There is no such note."
    status = 404


class InvalidNote(BaseAPIException):
    default_detail = "A note is a text that is not empty."
    status = 422


def checked(text):
    if not isinstance(text, str) or not text.strip():
        raise InvalidNote
    return text.strip()


def found(number):
    """Return the note with that number, which comes as a string: it is a part of the URL."""
    if not number.isdecimal() or int(number) not in notes:
        raise NoSuchNote
    return notes[int(number)]


class Hello(MethodBasedView):
    def get(self, request: Request):
        return "Hello, world!"


class Notes(MethodBasedView):
    renderers = (JSONRenderer, XMLRenderer)

    def get(self, request: Request):
        return list(notes.values())

    def post(self, request: Request):
        note = {"number": next(numbers), "text": checked(request.data)}
        notes[note["number"]] = note
        return note


class Note(MethodBasedView):
    def get(self, request: Request, number):
        return found(number)

    def put(self, request: Request, number):
        note = found(number)
        note["text"] = checked(request.data)
        return note

    def delete(self, request: Request, number):
        return notes.pop(found(number)["number"])


router = SimpleRouter()
router.register("/hello", Hello, methods="GET")
router.register("/notes", Notes, methods=["GET", "POST"], name="notes")
router.register("/notes/{number}", Note, methods=["GET", "PUT", "DELETE"], name="note")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--page", default="http://127.0.0.1:8000", help="origin of index.html")
    options = parser.parse_args()
    # A browser tells where a page is from; only that of the server itself is let in otherwise.
    app = Application(router=router, limits=Limits(allowed_origins=(options.page,)))
    app.run(port=options.port)
