"""Servers on our transports and on Twisted's."""

import pytest
import pytest_twisted
from twisted.logger import globalLogPublisher

from support.transports import NATIVE, Server


@pytest_twisted.async_yield_fixture(params=[NATIVE, pytest.param(False, id="twisted")])
async def server(request, tls_files):
    """Our transports, and Twisted's as the model."""
    one = Server(request.param, tls_files)
    yield one
    await one.close()


@pytest_twisted.async_yield_fixture(params=[NATIVE])
async def native(request, tls_files):
    """Our transports, where they are meant to differ, or where Twisted has nothing like it."""
    one = Server(request.param, tls_files)
    yield one
    await one.close()


@pytest.fixture
def logged():
    """What is logged as a failure, as the exceptions' values."""
    failures = []

    def observe(event):
        failure = event.get("log_failure", event.get("failure"))  # the second by log.err()
        if failure is not None:
            failures.append(failure.value)

    globalLogPublisher.addObserver(observe)
    yield failures
    globalLogPublisher.removeObserver(observe)
