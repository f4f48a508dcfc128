"""Notes in a database, with a pool that is opened at startup."""

import os
import sqlite3

from twisted.enterprise.adbapi import ConnectionPool

from aiorest_ws import (
    Application,
    BaseAPIException,
    MethodBasedView,
    Request,
    SimpleRouter,
)


class NoSuchNote(BaseAPIException):
    default_detail = "There is no such note."
    status = 404


class Notes(MethodBasedView):
    async def get(self, request: Request):
        rows = await request.factory.pool.runQuery(
            "SELECT id, text FROM note ORDER BY id"
        )
        return [{"id": note_id, "text": text} for note_id, text in rows]

    async def post(self, request: Request, text):
        note_id = await request.factory.pool.runInteraction(insert_note, text)
        return {"id": note_id, "text": text}


class Note(MethodBasedView):
    async def get(self, request: Request, note_id):
        rows = await request.factory.pool.runQuery(
            "SELECT id, text FROM note WHERE id = ?", (note_id,)
        )
        if not rows:
            raise NoSuchNote
        return {"id": rows[0][0], "text": rows[0][1]}


def insert_note(cursor, text):
    cursor.execute("INSERT INTO note (text) VALUES (?)", (text,))
    return cursor.lastrowid


router = SimpleRouter()
router.register("/notes", Notes, methods=["GET", "POST"])
router.register("/notes/{note_id}", Note, methods=["GET"])

app = Application(router=router)


@app.on_startup
async def open_pool(factory):
    factory.pool = ConnectionPool(
        "sqlite3",
        os.environ.get("NOTES_DATABASE", "notes.sqlite3"),
        check_same_thread=False,
        cp_reactor=factory.reactor,
    )
    await factory.pool.runOperation(
        "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT UNIQUE)"
    )


@app.on_shutdown
def close_pool(factory):
    factory.pool.close()


@app.error_handler(sqlite3.IntegrityError)
def taken(request, exc):
    return BaseAPIException("There is such a note already.", status=409)


if __name__ == "__main__":
    app.run()
