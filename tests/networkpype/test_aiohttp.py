"""The undocumented parts of aiohttp that `networkpype._aiohttp` relies on."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import client_reqrep, connector

import networkpype
from networkpype import _aiohttp


def _parameters(function: Callable[..., object]) -> set[str]:
    return set(inspect.signature(function).parameters)


# The name, why it is needed, and whether this release of aiohttp still has it.
INTERNALS: list[tuple[str, str, Callable[[], bool]]] = [
    (
        "ClientSession._request() with named parameters",
        "misspelt keyword arguments of a request are found by them",
        lambda: (
            {"allow_redirects", "proxy", "timeout"} <= _parameters(aiohttp.ClientSession._request)
        ),
    ),
    (
        "ClientSession._base_url",
        "a relative URL is signed as it is sent",
        lambda: "_base_url" in aiohttp.ClientSession.ATTRS,
    ),
    (
        "ClientSession._middlewares",
        "they go on when one is added for a request",
        lambda: "_middlewares" in aiohttp.ClientSession.ATTRS,
    ),
    (
        "ClientSession(request_class=...)",
        "it makes the session use our request class",
        lambda: "request_class" in _parameters(aiohttp.ClientSession),
    ),
    (
        "ClientRequest.send(conn) as a coroutine",
        "each attempt to send is observed there",
        lambda: (
            inspect.iscoroutinefunction(aiohttp.ClientRequest.send)
            and _parameters(aiohttp.ClientRequest.send) == {"self", "conn"}
        ),
    ),
    (
        "ClientRequest.url",
        "redirects to another origin are recognised by it",
        lambda: "url" in inspect.getsource(client_reqrep.ClientRequest),
    ),
    (
        "ClientResponse.status, None before the head has arrived",
        "a second attempt of aiohttp's own is recognised by it",
        lambda: aiohttp.ClientResponse.status is None,
    ),
    (
        "aiohttp.connector.Connection",
        "it is the type of the argument of ClientRequest.send()",
        lambda: inspect.isclass(connector.Connection),
    ),
]


@pytest.mark.parametrize(
    ("name", "reason", "is_there"), INTERNALS, ids=[name for name, _, _ in INTERNALS]
)
def test_aiohttp_still_has(name: str, reason: str, is_there: Callable[[], bool]) -> None:
    assert is_there(), (
        f"aiohttp {aiohttp.__version__} no longer has {name}. networkpype._aiohttp needs it: "
        f"{reason}."
    )


def test_only_one_module_uses_private_names_of_others() -> None:
    package = Path(networkpype.__file__).parent
    used = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                is_dunder = node.attr.startswith("__")
                is_own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
                if not is_dunder and not is_own:
                    used.add((path.relative_to(package).as_posix(), node.attr))
    names = ("_base_url", "_middlewares", "_request")
    assert used == {("_aiohttp.py", name) for name in names}


def test_the_request_class_is_a_subclass_made_once() -> None:
    class Special(aiohttp.ClientRequest):
        pass

    observed = _aiohttp.observed_request_class(Special)
    assert issubclass(observed, Special)
    assert _aiohttp.observed_request_class(Special) is observed


def test_an_unknown_keyword_names_the_public_function_and_the_nearest_keyword() -> None:
    with pytest.raises(TypeError, match=r"aiohttp\.ClientSession\(\); did you mean 'headers'\?"):
        _aiohttp.check_session_keywords(["header"])
    with pytest.raises(TypeError, match=r"ClientSession\.request\(\); did you mean 'proxy'\?"):
        _aiohttp.check_request_keywords(["proxi"])
    _aiohttp.check_request_keywords(["proxy", "ssl"])
