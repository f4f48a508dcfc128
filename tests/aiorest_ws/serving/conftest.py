"""Servers with workers."""

import textwrap

import pytest

from support.workers import API, MAIN, Server


@pytest.fixture
def start(tmp_path):
    """Start servers in a folder with an API; what is left of them is killed at the end."""
    (tmp_path / "api.py").write_text(textwrap.dedent(API))
    (tmp_path / "server.py").write_text(textwrap.dedent(MAIN))
    servers = []

    def start(*command):
        servers.append(Server(command, tmp_path))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
