"""The public modules of both packages: what they export, and what importing them does not do."""

import ast
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGES = ("aiorest_ws", "networkpype")

# Two of each, so that a look-up of names by position would not pass unseen.
EXPECTED = {
    "aiorest_ws",
    "aiorest_ws.app",
    "aiorest_ws.auth.token.managers",
    "aiorest_ws.conf",
    "aiorest_ws.urls",
    "aiorest_ws.wrappers",
    "networkpype",
    "networkpype.exceptions",
}


def find_public_modules():
    """Return {name: path} of every module whose path has no underscore in front."""
    found = {}
    for package in PACKAGES:
        root = Path(find_spec(package).origin).parent
        for path in sorted(root.rglob("*.py")):
            parts = [package, *path.relative_to(root).with_suffix("").parts]
            if parts[-1] == "__init__":
                parts.pop()
            if not any(part.startswith("_") for part in parts):
                found[".".join(parts)] = path
    return found


MODULES = find_public_modules()

# Imports each module as the first one, in a process of its own: a fork of one that has loaded
# nothing but what is not ours. The settings that the environment names cannot be read.
PROGRAM = """
import contextlib, importlib, io, json, logging, os, random, signal, sys, threading, traceback
import warnings

OURS = {"aiorest_ws", "networkpype"}

for name in sys.argv[1].split(","):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)

def facts():
    from twisted.logger import globalLogPublisher
    loggers = {
        name: [repr(logger.handlers), logger.propagate, logger.level]
        for name, logger in [("root", logging.root), *logging.Logger.manager.loggerDict.items()]
        if isinstance(logger, logging.Logger)
    }
    tasks = "/proc/self/task"
    return {
        "reactor": "twisted.internet.reactor" in sys.modules,
        "threads": [thread.name for thread in threading.enumerate()],
        "threads of the system": len(os.listdir(tasks)) if os.path.isdir(tasks) else 1,
        "loggers": {name: set_up for name, set_up in loggers.items() if set_up != ["[]", True, 0]},
        "log observers": len(globalLogPublisher._observers),
        "warning filters": len(warnings.filters),
        "signals": [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "hooks": [repr(sys.excepthook), repr(sys.unraisablehook), repr(threading.excepthook)],
        "path": list(sys.path),
        "environment": dict(os.environ),
    }

before = facts()
assert not before["reactor"]
assert not [name for name in sys.modules if name.partition(".")[0] in OURS]

def report(names):
    result = {"error": None, "missing": [], "changed": {}, "printed": ""}
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            modules = [importlib.import_module(name) for name in names]
    except BaseException:
        result["error"] = traceback.format_exc()
    else:
        for module in modules:
            exported = getattr(module, "__all__", ())
            result["missing"] += [name for name in exported if not hasattr(module, name)]
        after = facts()
        result["changed"] = {key: after[key] for key in after if after[key] != before[key]}
        result["printed"] = printed.getvalue()
    return result

names = sys.argv[2].split(",")
orders = {name: [name] for name in names}
orders["backwards"] = names[::-1]
for seed in range(3):
    orders[f"shuffled {seed}"] = random.Random(seed).sample(names, len(names))
for key, order in orders.items():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writer, "w") as pipe:
            json.dump(report(order), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    print(json.dumps([key, json.loads(answer) if answer else {"error": f"status {status}"}]))
"""

# Loaded once, because they take most of the time of an import.
FOREIGN = (
    "aiohttp",
    "argon2",
    "autobahn.twisted.websocket",
    "cryptography.x509",
    "jwt",
    "msgspec",
    "OpenSSL",
    "sqlite3",
    "twisted.application.service",
    "twisted.internet.asyncioreactor",
    "twisted.internet.endpoints",
    "twisted.internet.ssl",
    "twisted.internet.threads",
    "twisted.logger",
    "twisted.protocols.tls",
    "twisted.python.usage",
    "uvloop",
)

NOTHING_HAPPENED = {"error": None, "missing": [], "changed": {}, "printed": ""}

ORDERS = ("backwards", *(f"shuffled {seed}" for seed in range(3)))


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What happens when each module is imported first, and all in several orders."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    # Where the packages are when they are not installed: without the test's own directory.
    roots = {str(Path(find_spec(package).origin).parent.parent) for package in PACKAGES}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, ",".join(FOREIGN), ",".join(MODULES)],
        env={
            **os.environ,
            "AIORESTWS_SETTINGS_MODULE": "settings_that_must_not_be_read",
            "PYTHONPATH": os.pathsep.join(roots),
        },
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return dict(map(json.loads, done.stdout.splitlines()))


def exported_by(path):
    """Return what `__all__` of a source file is, or None."""
    for statement in ast.parse(path.read_text("utf-8")).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else ()
        if isinstance(statement, ast.AnnAssign):
            targets = (statement.target,)
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return ast.literal_eval(statement.value)
    return None


def test_modules_of_both_packages_are_found():
    assert set(MODULES) >= EXPECTED


@pytest.mark.parametrize("module", MODULES)
def test_a_public_module_says_what_it_exports(module):
    exported = exported_by(MODULES[module])
    assert exported is not None
    assert len(set(exported)) == len(exported)
    assert all(isinstance(name, str) and name.isidentifier() for name in exported)
    private = [name for name in exported if name.startswith("_") and name != "__version__"]
    assert private == []


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_exports_exists(reports, module):
    assert reports[module]["error"] is None
    assert reports[module]["missing"] == []


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_does_nothing_else(reports, module):
    """No reactor, no thread, no logging set up, no settings read, nothing printed."""
    assert reports[module] == NOTHING_HAPPENED


@pytest.mark.parametrize("order", ORDERS)
def test_modules_can_be_imported_in_any_order(reports, order):
    assert reports[order] == NOTHING_HAPPENED
