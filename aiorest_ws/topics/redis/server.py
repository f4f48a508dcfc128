"""What topics need of a Redis server."""

import re
from collections.abc import Mapping
from typing import Any

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.log import logger

__all__ = ("NO_CLUSTER", "check_server", "is_refused_by_cluster")

# XRANGE with an exclusive start.
MIN_VERSION = (6, 2)

NO_CLUSTER = (
    "Topics cannot be on Redis Cluster: use one Redis server, or a master with replicas and "
    "Sentinel."
)

_CLUSTER_CODES = {"ASK", "CLUSTERDOWN", "CROSSSLOT", "MOVED", "TRYAGAIN"}


def check_server(info: Mapping[str, Any]) -> None:
    """Raise ImproperlyConfigured for a server that topics cannot be on; warn if it evicts keys.

    `info` is what INFO tells.
    """
    # Valkey calls it server_mode.
    mode = info.get("redis_mode", info.get("server_mode"))
    if mode == "cluster":
        raise ImproperlyConfigured(NO_CLUSTER)
    if mode == "sentinel":
        raise ImproperlyConfigured(
            "This is a sentinel, not a Redis server: its URL is redis+sentinel://host:port/service."
        )
    version = str(info.get("redis_version", ""))
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers and numbers < MIN_VERSION:
        needed = ".".join(map(str, MIN_VERSION))
        raise ImproperlyConfigured(f"Topics need Redis {needed} or later, this is {version}.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        logger.warning(
            "topics: with its maxmemory-policy %s, Redis may drop messages: set it to noeviction",
            policy,
        )


def is_refused_by_cluster(exc: BaseException) -> bool:
    """Tell whether only a Redis Cluster answers with this error."""
    from redis import exceptions

    kinds = (exceptions.ClusterError, exceptions.AskError, exceptions.ClusterCrossSlotError)
    # Older releases of the client leave the code in front of the text.
    return isinstance(exc, kinds) or str(exc).partition(" ")[0] in _CLUSTER_CODES
