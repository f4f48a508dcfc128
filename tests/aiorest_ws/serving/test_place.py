"""Which place on a stack is the application's."""

import inspect
import random
import textwrap

import pytest

from aiorest_ws.serving.place import codes_of, frames_after, place_of

FOLDERS = {
    "theirs": "/srv/shop/{}.py",
    "installed": "/venv/lib/python3.11/site-packages/{}.py",
    "debian": "/usr/lib/python3/dist-packages/{}.py",
    "ours": "/venv/lib/python3.11/site-packages/aiorest_ws/{}.py",
    "stdlib": random.__file__.replace("random", "{}"),
    "frozen": "<frozen {}>",
}


def function(kind, module, name, calls):
    """Return a function of a module of this kind, in line 2, which calls another one."""
    path = FOLDERS[kind].format(module)
    source = textwrap.dedent(
        f"""
        def {name}(): return calls()
        """
    )
    name_of_module = "aiorest_ws.x" if kind == "ours" else module
    namespace = {"__name__": name_of_module, "calls": calls}
    exec(compile(source, path, "exec"), namespace)
    return namespace[name]


def stack(*functions):
    """Return the frames of functions that call each other, the outermost first."""
    base = codes_of(inspect.currentframe())

    def innermost():
        return frames_after(base, inspect.currentframe().f_back)

    call = innermost
    for kind, module, name in reversed(functions):
        call = function(kind, module, name, call)
    return call()


@pytest.mark.parametrize(
    ("functions", "place"),
    [
        ([("theirs", "orders", "create")], "orders.py:2 create"),
        (
            [("ours", "dispatcher", "reply"), ("theirs", "orders", "create")],
            "orders.py:2 create",
        ),
        (
            [("theirs", "orders", "create"), ("installed", "requests", "get")],
            "orders.py:2 create",
        ),
        (
            [("theirs", "orders", "create"), ("stdlib", "queue", "get"), ("frozen", "io", "x")],
            "orders.py:2 create",
        ),
        (
            [
                ("stdlib", "functools", "wrap"),
                ("theirs", "orders", "create"),
                ("ours", "factory", "publish"),
                ("theirs", "prices", "of"),
            ],
            "prices.py:2 of, called by orders.py:2 create",
        ),
        (
            [
                ("ours", "dispatcher", "reply"),
                ("installed", "shop", "create"),
                ("installed", "requests", "get"),
            ],
            "shop.py:2 create",
        ),
        ([("debian", "shop", "create"), ("stdlib", "socket", "recv")], "shop.py:2 create"),
        ([("ours", "codecs", "encode"), ("stdlib", "base64", "b64encode")], None),
        ([], None),
    ],
)
def test_the_innermost_place_of_the_application_is_named(functions, place):
    assert place_of(stack(*functions)) == place


def test_what_runs_the_loop_is_no_part_of_it():
    """Even if it is the application's own code."""
    assert [frame.f_code.co_name for frame in stack(("theirs", "a", "b"))] == ["b"]
