"""A server that cannot start: one line, and exit status 1, however the program is run."""

import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from itertools import cycle
from pathlib import Path

import pytest

from support.programs import script

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[3]

API = """
    import asyncio
    import os
    import sys

    from aiorest_ws.app import Application
    from aiorest_ws.decorators import endpoint
    from aiorest_ws.routers import SimpleRouter

    @endpoint("/hello", "GET")
    def hello(request):
        return "Hello, world!"

    router = SimpleRouter()
    router.register_endpoint(hello)
    case = os.environ.get("CASE", "")
    options = {}
    if case.startswith("tls-"):
        certificate, key = os.environ["FILES"].split()
        options = {"certificate": certificate, "key": key}
    if case == "redis-away":
        options = {"topics": "redis://127.0.0.1:1/0"}
    if case == "redis-url":
        options = {"topics": "redis://127.0.0.1:port/0"}
    if case == "redis-scheme":
        options = {"topics": "amqp://127.0.0.1/0"}
    if case == "no-extra":
        sys.modules["redis"] = None
        options = {"topics": "redis://127.0.0.1:1/0"}
    app = Application(router=None if case == "empty" else router, **options)

    if case.startswith("hook-"):
        @app.on_startup
        async def prepare(factory):
            if case == "hook-exit":  # also on a reactor that has no asyncio
                sys.exit("no licence")
            await asyncio.sleep(0)
            if case == "hook-key":
                raise KeyError("database")
            if case == "hook-lines":
                raise RuntimeError("the schema\\nis old")
            if case == "hook-silent":
                raise TimeoutError
            if case == "hook-refused":
                await asyncio.open_connection("127.0.0.1", 1)
            if case == "hook-cancelled":
                task = asyncio.ensure_future(asyncio.sleep(60))
                task.cancel()
                await task
"""

SCRIPT = "import os; from api import app; app.run(port=int(os.environ.get('PORT', '0')))"

TAC = """
import os, sys
sys.path.insert(0, ".")
from twisted.application.service import Application
from api import app
application = Application("api")
listen = f"tcp:{os.environ.get('PORT', '0')}:interface=127.0.0.1"
app.service(listen=listen).setServiceParent(application)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "api.py").write_text(textwrap.dedent(API))
    (tmp_path / "service.tac").write_text(TAC)
    (tmp_path / "text.pem").write_text("not a certificate\n")
    return tmp_path


@pytest.fixture
def busy():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


LISTEN = ("--app", "api:app", "--listen", "tcp:0:interface=127.0.0.1")
PROGRAMS = {
    "script": [sys.executable, "-c", SCRIPT],
    "tac": [script("twistd"), "-n", "--pidfile=", "-y", "service.tac"],
    "twistd": [script("twistd"), "-n", "--pidfile=", "aiorest-ws", *LISTEN],
    "twist": [script("twist"), "--log-format=text", "aiorest-ws", *LISTEN],
    "twist-epoll": [
        script("twist"),
        "--reactor=epoll",
        "--log-format=text",
        "aiorest-ws",
        *LISTEN,
    ],
}


def run(folder, program, case="", port=None, **environment):
    command = PROGRAMS[program]
    if port is not None:
        command = [one.replace("tcp:0:", f"tcp:{port}:") for one in command]
        environment["PORT"] = str(port)
    # Twisted finds a plugin in a folder on the path; not one of an editable install.
    if (ROOT / "twisted" / "plugins").is_dir():
        environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "CASE": case, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def line_of(done):
    """The one line that says why the server did not start."""
    output = done.stdout + done.stderr
    assert "Traceback" not in output
    assert done.returncode == 1, output
    lines = [line for line in output.splitlines() if re.search("aiorest-ws(: |#critical)", line)]
    assert len(lines) == 1, output
    return lines[0]


CASES = {
    "hook-key": r"'database' \(KeyError, api\.py:\d+\)$",
    "hook-lines": r"the schema is old \(RuntimeError, api\.py:\d+\)$",
    "hook-silent": r"TimeoutError \(TimeoutError, api\.py:\d+\)$",
    "hook-exit": r"no licence",
    "hook-refused": r"\(ConnectionRefusedError, ",
    "hook-cancelled": r"CancelledError",
    "redis-away": r"Redis cannot be reached, <RedisURL 127\.0\.0\.1:1/0>",
    "redis-url": "The URL of Redis is invalid",
    "redis-scheme": "topics must be 'memory' or a URL that begins with one of",
    "no-extra": "Topics on Redis need its client",
    "empty": "An Application needs a router",
}


@pytest.mark.parametrize(
    ("case", "program"), list(zip(CASES, cycle(["script", "tac", "twist"]), strict=False))
)
def test_a_server_that_cannot_start_says_why_in_one_line(folder, program, case):
    assert re.search(CASES[case], line_of(run(folder, program, case)))


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_busy_port_is_status_1(folder, program, busy):
    assert f"127.0.0.1:{busy}" in line_of(run(folder, program, port=busy))


@pytest.mark.parametrize(
    ("program", "case"),
    [
        *(("twistd", "hook-refused"), ("twist-epoll", "hook-exit"), ("twist", "redis-away")),
        *(("tac", "empty"), ("script", "hook-cancelled"), ("tac", "hook-cancelled")),
    ],
)
def test_other_programs_say_it_too(folder, program, case):
    assert re.search(CASES[case], line_of(run(folder, program, case)))


@pytest.mark.parametrize(
    ("program", "certificate", "key", "names"),
    [
        ("script", "absent.pem", "{key}", "'absent.pem': No such file or directory"),
        ("tac", "{chain}", "absent.key", "'absent.key': No such file or directory"),
        ("twist", "text.pem", "{key}", "'text.pem': "),
        ("script", "{chain}", ".", "'.': Is a directory"),
    ],
)
def test_a_file_of_tls_that_cannot_be_used_is_named(
    folder, tls_files, program, certificate, key, names
):
    chain, own_key = tls_files
    files = " ".join(one.format(chain=chain, key=own_key) for one in (certificate, key))
    assert names in line_of(run(folder, program, "tls-files", FILES=files))


@pytest.mark.parametrize("status", [0, 3])
def test_a_hook_that_exits_chooses_the_status(folder, status):
    (folder / "api.py").write_text(
        "import sys\n"
        "from aiorest_ws.app import Application\n"
        "from aiorest_ws.demo import make_router\n"
        "app = Application(router=make_router())\n"
        "@app.on_startup\n"
        "def end(factory):\n"
        f"    sys.exit({status})\n"
    )
    for program in ("script", "tac"):
        assert run(folder, program).returncode == status


def test_what_a_program_does_at_its_end_is_done(folder):
    with (folder / "api.py").open("a") as api:
        api.write(
            "import atexit\n"
            "atexit.register(os.write, 1, b'second\\n')\n"
            "atexit.register(os.write, 1, b'first\\n')\n"
        )
    done = run(folder, "tac", "hook-key")
    line_of(done)
    assert done.stdout.splitlines()[-2:] == ["first", "second"]


@pytest.mark.parametrize("case", ["", "hook-key"])
def test_a_daemon_tells_its_parent_that_the_port_is_busy(folder, busy, case):
    PROGRAMS["daemon"] = [
        script("twistd"),
        "--pidfile=d.pid",
        "--logfile=d.log",
        "-y",
        "service.tac",
    ]
    done = run(folder, "daemon", case, port=busy)
    assert done.returncode == 1
    assert f"127.0.0.1:{busy}" in done.stderr
    deadline = time.monotonic() + 30
    while (folder / "d.pid").exists():  # the daemon ends after its parent
        assert time.monotonic() < deadline
        time.sleep(0.01)
    log = (folder / "d.log").read_text()
    assert log.count(f"the server cannot start: Couldn't listen on 127.0.0.1:{busy}") == 1
    assert "Traceback" not in log


def test_the_traceback_is_logged_for_debugging(folder):
    PROGRAMS["debug"] = [
        sys.executable,
        "-c",
        "from api import app; app.run(port=0, log_level='debug')",
    ]
    done = run(folder, "debug", "hook-key")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_program_can_have_the_exception(folder):
    code = (
        "from api import app\n"
        "try:\n"
        "    app.tcp_service('127.0.0.1', 0).run()\n"
        "except KeyError as exc:\n"
        "    print('caught', exc)\n"
    )
    PROGRAMS["caught"] = [sys.executable, "-c", code]
    done = run(folder, "caught", "hook-key")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "caught 'database'")
