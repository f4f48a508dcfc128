"""Markers that follow from what a test uses."""

import gc
from typing import Any

import pytest

# Fixtures that start processes, and fixtures that need redis-server.
MARKERS = {
    "process": {"environment", "processes", "reports", "spawn", "start", "workshop"},
    "redis": {"redis_server", "redis_url"},
}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[Any]) -> None:
    for item in items:
        if getattr(item.obj, "is_hypothesis_test", False):
            item.add_marker("property")
        for marker, fixtures in MARKERS.items():
            if fixtures.intersection(item.fixturenames):
                item.add_marker(marker)


def pytest_collection_finish() -> None:
    """Spare garbage collections the thousands of objects of the collected tests."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable():
    """Let pytest-xdist send what a test has logged: surrogates of bad messages, say."""
    data = yield
    if data is not None:
        data["sections"] = [
            (name, text.encode(errors="backslashreplace").decode())
            for name, text in data["sections"]
        ]
    return data
