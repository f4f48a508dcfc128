"""URLs of Redis: sockets, sentinels, passwords."""

import asyncio
import socket
import subprocess
import time

import pytest

from aiorest_ws.exceptions import ImproperlyConfigured, TopicsUnavailable
from aiorest_ws.topics.redis.url import RedisURL
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
