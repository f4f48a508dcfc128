"""The names of the package itself, which are imported on first use."""

import importlib
import json
import subprocess
import sys

import pytest

import aiorest_ws

HOMES = {
    "DATA": "contract",
    "Application": "app",
    "BaseAPIException": "exceptions",
    "Data": "contract",
    "DeclaredError": "exceptions",
    "Depends": "contract",
    "Limits": "limits",
    "MethodBasedView": "views",
    "Request": "wrappers",
    "RequestHandlerFactory": "request",
    "RequestHandlerProtocol": "request",
    "Response": "wrappers",
    "SimpleRouter": "routers",
    "ValidationError": "exceptions",
    "endpoint": "decorators",
}


def told_by(program):
    """What a new process prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", HOMES)
def test_a_name_is_that_of_its_module(name):
    home = importlib.import_module(f"aiorest_ws.{HOMES[name]}")
    assert getattr(aiorest_ws, name) is getattr(home, name)


def test_the_names_are_listed_before_they_are_imported():
    assert set(aiorest_ws.__all__) == {*HOMES, "__version__"}
    program = (
        "import json, sys, aiorest_ws\n"
        "print(json.dumps([dir(aiorest_ws), [m for m in sys.modules if m.startswith('twisted')]]))"
    )
    listed, twisted = told_by(program)
    assert {*HOMES, "__version__", "__all__", "__file__"} <= set(listed)
    assert twisted == []


def test_the_package_alone_imports_next_to_nothing():
    program = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        "import aiorest_ws\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert set(told_by(program)) <= {"aiorest_ws", "aiorest_ws.version"}


def test_the_names_can_be_imported_without_a_reactor():
    program = (
        "import json, sys\n"
        "from aiorest_ws import *\n"
        "from aiorest_ws import Application, SimpleRouter\n"
        "router = SimpleRouter()\n"
        "router.get('/')(lambda request: 1)\n"
        "Application(router=router)\n"
        "print(json.dumps(['twisted.internet.reactor' in sys.modules, endpoint.__name__]))"
    )
    assert told_by(program) == [False, "endpoint"]


@pytest.mark.parametrize("name", ["Aplication", "application", "Datum", "__path", "get"])
def test_another_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"'aiorest_ws' has no attribute '{name}'"):
        getattr(aiorest_ws, name)
    with pytest.raises(ImportError):
        exec(f"from aiorest_ws import {name}", {})


def test_modules_are_imported_as_before():
    from aiorest_ws import app, exceptions
    from aiorest_ws.urls import utils

    assert (app.__name__, exceptions.__name__) == ("aiorest_ws.app", "aiorest_ws.exceptions")
    assert aiorest_ws.app is app
    assert aiorest_ws.urls.utils is utils
