"""URLs of Redis: sockets, sentinels, passwords."""

import asyncio
import re
import socket
import subprocess
import time
from urllib.parse import quote

import pytest

from aiorest_ws.app import Application
from aiorest_ws.exceptions import ImproperlyConfigured, TopicsUnavailable
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics import connect
from aiorest_ws.topics.redis.broker import RedisBroker
from aiorest_ws.topics.redis.url import RedisURL
from aiorest_ws.transports import install_reactor
from support.reactors import asyncio_test
from support.redis_topics import publish
from support.waiting import until

SECONDS = 30


def test_a_url_may_be_of_a_unix_socket():
    client = RedisURL("unix:///run/redis.sock?db=3&prefix=p").client(is_async=False)
    assert client.connection_pool.connection_kwargs["path"] == "/run/redis.sock"
    assert client.connection_pool.connection_kwargs["db"] == 3


def test_a_url_tells_no_password():
    for url in (
        "redis://ann:secret@127.0.0.1:1/0",
        "redis+sentinel://ann:secret@127.0.0.1:1,127.0.0.1:2/main/3",
    ):
        assert "secret" not in repr(RedisURL(url))
        assert "127.0.0.1" in repr(RedisURL(url))


# Passwords that were not percent-encoded; each in the URLs of FORMS. Nothing of them may be shown.
RAW = {
    "at": "hunter@quokka",
    "two-at": "hunter@qu@okka",
    "hash": "hunter#quokka",
    "question": "hunter?quokka",
    "question-equals": "hunter?quokka=9",
    "slash": "hunter/quokka",
    "digits-slash": "1234/quokka",
    "digits-question": "1234?quokka",
    "percent": "hunter%quokka",
    "percent-at-end": "hunterquokka%",
    "space": "hunter quokka",
    "line": "hunter\nquokka",
    "tab": "hunter\tquokka",
    "bracket": "hunter[quokka",
    "brackets": "[hunter]quokka",
    "all": "h@u#n?t/e%r quokka",
}
FORMS = {
    "redis": "redis://ann:{}@127.0.0.1:1/0",
    "no-user": "redis://:{}@127.0.0.1:1",
    "rediss": "rediss://ann:{}@127.0.0.1:1/0?prefix=p",
    "unix": "unix://ann:{}@/run/redis.sock?db=1",
    "sentinel": "redis+sentinel://ann:{}@127.0.0.1:1,127.0.0.1:2/main/0",
}
TOLD = re.compile(r"hunter|quokka|okka|1234|\bann\b")


def told_of(exc):
    """All texts of an exception, and of those that were raised before it."""
    texts = []
    while exc is not None:
        texts += [str(exc), repr(exc), repr(exc.args), *map(str, getattr(exc, "__notes__", ()))]
        exc = exc.__cause__ or exc.__context__
    return "\n".join(texts)


def as_application(url):
    router = SimpleRouter()
    router.register_topic("t")
    Application(router=router, topics=url).generate_factory()


def as_factory(url):
    RequestHandlerFactory(topics=url)


def as_broker(url):
    RedisBroker(url, install_reactor())


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("password", RAW.values(), ids=RAW)
def test_a_password_that_is_not_encoded_is_refused_and_not_shown(caplog, capsys, password, form):
    url = form.format(password)
    for use in (RedisURL, connect, as_broker, as_factory, as_application):
        with pytest.raises(ImproperlyConfigured) as caught:
            use(url)
        assert "%40 for @" in str(caught.value)
        assert not TOLD.search(told_of(caught.value))
    assert not TOLD.search(caplog.text + "".join(capsys.readouterr()))


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:1/0?password=hunter&quokka",
        "redis://h:1/0?password=hunter#quokka",
        "redis://h:1/0?password=hunter%quokka",
        "redis://h:1/0?password=hunter&quokka=9",
        "redis://ann:hunter",
        "unix://ann:hunter",
        "unix://hunter/quokka.sock",
    ],
)
def test_what_redis_has_no_use_for_is_refused_and_not_shown(url):
    with pytest.raises(ImproperlyConfigured) as caught:
        RedisURL(url)
    assert not TOLD.search(told_of(caught.value))


@pytest.mark.parametrize("password", [*RAW.values(), "a:b", "~-._", "é+&=,;", "%41"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_password_that_is_encoded_is_taken(form, password):
    url = RedisURL(form.format(quote(password, safe="")))
    for is_async in (False, True):
        kept = url.client(is_async=is_async).connection_pool.connection_kwargs
        assert kept["password"] == password
    assert password not in repr(url)


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("redis://ann:a:b@h", "a:b"),
        ("redis://ann:!$&'()*+,;=@h", "!$&'()*+,;="),
        ("redis://h?password=p@q", "p@q"),
        ("redis://h?password=p%23q&username=ann@example.org", "p#q"),
        ("unix:///run/red@is.sock?password=p:q", "p:q"),
        ("redis://[::1]:6379/1", None),
        ("redis://", None),
    ],
)
def test_a_url_that_is_legal_is_taken(url, password):
    client = RedisURL(url).client(is_async=False)
    assert client.connection_pool.connection_kwargs.get("password") == password


@pytest.mark.parametrize("name", ["at", "hash", "percent"])
@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_command_does_not_show_it(start, folder, name, by):
    (folder / "shop.py").write_text(
        "import os\n"
        "from aiorest_ws.app import Application\n"
        "from aiorest_ws.routers import SimpleRouter\n"
        "router = SimpleRouter()\n"
        "router.register_topic('t')\n"
        "app = Application(router=router, topics=os.environ.get('TOPICS_URL', 'memory'))\n"
    )
    url = FORMS["redis"].format(RAW[name])
    options = ("--topics", url) if by == "option" else ()
    environment = {"TOPICS_URL": url} if by == "environment" else {}
    command = ("-m", "aiorest_ws", "run", "shop:app", "--port", "0", *options)
    server = start(*command, **environment)
    status = server.join()
    text = "\n".join(server.lines)
    assert status == 2, text
    assert "The URL of Redis is invalid" in text
    assert not TOLD.search(text)


@asyncio_test
async def test_an_encoded_password_opens_redis(brokers, redis_server, tmp_path):
    password = "h@u#n?t/e%r:quokka"
    path = tmp_path / "redis.sock"
    # `start` looks for a server that answers without a password.
    server = redis_server("--unixsocket", str(path))
    assert server.ask("ACL", "SETUSER", "ann", "on", f">{password}", "~*", "&*", "+@all") == b"+OK"
    encoded = quote(password, safe="")
    for url in (
        f"redis://ann:{encoded}@127.0.0.1:{server.port}/0?prefix=p",
        f"unix://ann:{encoded}@{path}?prefix=p",
    ):
        broker, heard = await brokers(url)
        await publish(broker)
        await until(lambda heard=heard: heard.messages)


@asyncio_test
async def test_a_wrong_password_is_not_shown(brokers, redis_server, caplog):
    server = redis_server()
    assert server.ask("CONFIG", "SET", "requirepass", "other") == b"+OK"
    with pytest.raises(TopicsUnavailable) as caught:
        await brokers(f"redis://:hunter%40quokka@127.0.0.1:{server.port}/0")
    assert not TOLD.search(told_of(caught.value) + caplog.text)


@pytest.mark.parametrize(
    "url", ["redis+sentinel://h:1/", "redis+sentinel:///main", "redis+sentinel://h:x/main"]
)
def test_a_url_of_sentinels_names_them_and_a_service(url):
    with pytest.raises(ImproperlyConfigured):
        RedisURL(url)


@asyncio_test
async def test_sentinels_know_where_redis_is(brokers, redis_server, tmp_path):
    server = redis_server()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor main 127.0.0.1 {server.port} 1\n")
    port = _free_port()
    command = ["redis-server", str(config), "--sentinel", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"redis+sentinel://127.0.0.1:{port}/main/0?prefix=p"
            end = time.monotonic() + SECONDS
            while True:
                assert time.monotonic() < end
                try:
                    broker, heard = await brokers(url)
                    break
                except TopicsUnavailable:
                    await asyncio.sleep(0.05)
            await publish(broker)
            await until(lambda: heard.messages)
            with pytest.raises(ImproperlyConfigured, match=r"redis\+sentinel://"):
                await brokers(f"redis://127.0.0.1:{port}/0")
        finally:
            process.kill()


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
