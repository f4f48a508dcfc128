"""A Redis that topics cannot be on is refused, with a sentence that says why."""

import asyncio
import logging
import subprocess
import sys

import pytest
from redis import Redis

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.topics import connect
from aiorest_ws.topics.redis.server import check_server
from support.reactors import asyncio_test
from support.redis_topics import publish
from support.waiting import until

PLAIN = ("~*", "resetchannels", "+@all")
CLUSTER = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")


async def become_a_cluster(server):
    """Let it be a cluster of one server, which has all slots."""
    with Redis(port=server.port) as client:
        client.execute_command("CLUSTER ADDSLOTS", *range(16384))
        await until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def with_user(server, url, *rights):
    assert server.ask("ACL", "SETUSER", "ann", "on", ">pass", *rights) == b"+OK"
    return url.replace("redis://", "redis://ann:pass@")


@pytest.mark.parametrize("has_slots", [True, False])
@pytest.mark.parametrize("rights", [PLAIN, (*PLAIN, "-info")])
@asyncio_test
async def test_a_cluster_is_refused(brokers, redis_server, has_slots, rights):
    server = redis_server(*CLUSTER)
    if has_slots:
        await become_a_cluster(server)
    url = with_user(server, server.url("p"), *rights)
    with pytest.raises(ImproperlyConfigured, match="Redis Cluster"):
        await brokers(url)
    with connect(url) as publisher, pytest.raises(ImproperlyConfigured, match="Redis Cluster"):
        await asyncio.to_thread(publisher.publish, "orders/1", 1, wait_seconds=30)


@pytest.mark.parametrize("version", ["6.0.16", "5.0.7", "2.8", 6.0, "6.1.240"])
def test_an_old_version_is_refused(version):
    with pytest.raises(ImproperlyConfigured, match=r"6\.2"):
        check_server({"redis_version": version, "redis_mode": "standalone"})


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", 7.4, "10.0.0", "255.255.255", ""])
def test_other_versions_are_not(version, caplog):
    check_server({"redis_version": version, "server_mode": "standalone"})
    assert not caplog.records


@pytest.mark.parametrize(
    "policy", ["allkeys-lru", "volatile-ttl", "volatile-lfu", "allkeys-random", "noeviction"]
)
@asyncio_test
async def test_a_policy_that_evicts_is_warned_of(brokers, redis_server, policy, caplog):
    server = redis_server("--maxmemory-policy", policy)
    with caplog.at_level(logging.WARNING):
        await brokers(server.url("p"))
    warned = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warned) == (policy != "noeviction")
    assert all(policy in one.getMessage() for one in warned)


@asyncio_test
async def test_a_user_without_a_right_to_info_can_publish(brokers, redis_server):
    server = redis_server()
    broker, _ = await brokers(with_user(server, server.url("p"), *PLAIN, "-info"))
    assert (await publish(broker)).offset == 1


@pytest.mark.process
def test_a_server_that_cannot_start_says_why_in_a_line(redis_server, tmp_path):
    server = redis_server(*CLUSTER)
    (tmp_path / "shop.py").write_text(
        "from aiorest_ws.routers import SimpleRouter\nrouter = SimpleRouter()\n"
    )
    command = [sys.executable, "-m", "aiorest_ws", "run", "shop:router", "--port", "0"]
    done = subprocess.run(
        [*command, "--topics", server.url("p")],
        cwd=tmp_path,
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert "Redis Cluster" in line
