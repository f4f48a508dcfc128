"""Rooms to talk in: topics in the memory of one process, and who is there."""

import argparse

from aiorest_ws import Application, BaseAPIException, Request, SimpleRouter

router = SimpleRouter()

NAME_LENGTH, TEXT_LENGTH = 20, 500


class NoName(BaseAPIException):
    default_detail = "Say who you are first: PUT /name."
    status = 403


class NotThere(BaseAPIException):
    default_detail = "You are not in this room."
    status = 403


def checked(value, length):
    if not isinstance(value, str) or not 0 < len(value.strip()) <= length:
        raise BaseAPIException(f"A text of 1 to {length} characters is wanted.", status=422)
    return value.strip()


def name_of(connection):
    name = getattr(connection.state, "name", None)
    if name is None:
        raise NoName
    return name


@router.get("/hello")
def hello(request: Request) -> str:
    return "Hello, world!"


@router.put("/name")
def set_name(request: Request) -> str:
    """Give a connection a name, once: others have been told of it."""
    if hasattr(request.connection.state, "name"):
        raise BaseAPIException("You have a name.", status=409)
    request.connection.state.name = checked(request.data, NAME_LENGTH)
    return request.connection.state.name


@router.post("/rooms/{room}")
async def say(request: Request, room: str) -> int:
    """Tell it to everybody in the room."""
    name, topic = name_of(request.connection), f"rooms/{room}"
    if topic not in request.connection.subscriptions:
        raise NotThere
    said = {"name": name, "text": checked(request.data, TEXT_LENGTH)}
    return (await request.factory.publish(topic, said)).offset


@router.get("/rooms/{room}/people")
async def people(request: Request, room: str) -> list[str]:
    present = await request.factory.presence(f"rooms/{room}")
    return sorted(info["name"] for info in present.values())


def only_with_a_name(request: Request, topic):
    name_of(request.connection)
    return True


def presence_info(request: Request):
    """Tell others the name, and nothing else, of who comes."""
    return {"name": name_of(request.connection)}


router.register_topic("rooms/{room}", history=50, presence=True, on_subscribe=only_with_a_name)

app = Application(router=router, presence_info=presence_info)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    app.run(port=parser.parse_args().port)
