"""The reactor, before pytest-twisted installs another one."""

import asyncio
import os

import pytest
from twisted.internet import asyncioreactor

from aiorest_ws.transports import install_reactor


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if config.getoption("reactor", None) != "asyncio":
        return
    if os.environ.get("AIOREST_WS_TEST_LOOP") == "asyncio":
        asyncioreactor.install(asyncio.SelectorEventLoop())
    install_reactor()
