"""Every example as its README tells it: real servers, real clients, a real browser."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.requirements import require_program
from support.waiting import block_until

pytestmark = pytest.mark.process

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = (
    "async_views",
    "chat",
    "custom_factory",
    "function_based_api",
    "method_based_api",
    "twisted_service",
)

# How long a process that hangs is waited for. Nothing waits that long when all is well.
PATIENCE_SECONDS = 60

TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")

BANNER = (
    r"aiorest-ws \S+\n"
    r"Server started at ws://127\.0\.0\.1:\d+/\n"
    r"Reactor: AsyncioSelectorReactor on \S+\n"
    r"Quit the server with CONTROL-C\.\n"
)

HELLO_REQUEST = b'{"method":"GET","url":"/hello"}'
HELLO_REQUEST_BASE64 = b"eyJtZXRob2QiOiJHRVQiLCJ1cmwiOiIvaGVsbG8ifQ=="
HELLO_REPLY = b'{"data":"Hello, world!","event_name":null}'
HELLO_REPLY_BASE64 = b"eyJkYXRhIjoiSGVsbG8sIHdvcmxkISIsImV2ZW50X25hbWUiOm51bGx9"

# A process of its own: Autobahn on asyncio cannot share one with Autobahn on Twisted, which the
# other tests of a session import. It makes two calls, and prints whether the replies were binary
# and their very bytes.
AUTOBAHN_CLIENT = f"""
import asyncio
import sys
from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol

class Client(WebSocketClientProtocol):
    def onOpen(self):
        self.replies = []
        self.sendMessage({HELLO_REQUEST!r}, isBinary=False)

    def onMessage(self, payload, isBinary):
        self.replies.append((isBinary, payload))
        if len(self.replies) == 1:
            self.sendMessage({HELLO_REQUEST_BASE64!r}, isBinary=True)
        else:
            print(self.replies)
            self.sendClose()

async def main():
    factory = WebSocketClientFactory(sys.argv[1])
    factory.protocol = Client
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(factory, factory.host, factory.port)
    await client.is_closed

asyncio.run(main())
"""


class Process:
    """A process that goes on until it is told to stop, and what it has printed so far."""

    def __init__(self, process, errors):
        self._process = process
        self._errors = errors
        self.printed = ""

    @property
    def errors(self):
        return self._errors.read_text() if self._errors else ""

    def read_until(self, pattern):
        """Return the match of `pattern` in the first line that has one."""
        for line in self._process.stdout:
            self.printed += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no line has {pattern!r}:\n{self.printed}{self.errors}")

    def send_signal(self, number):
        self._process.send_signal(number)

    def wait(self):
        """Read what is still printed; return the exit status."""
        self.printed += self._process.stdout.read()
        return self._process.wait()


@pytest.fixture(autouse=True)
def _no_proxy_for_loopback(monkeypatch):
    """Keep clients from asking a proxy of the machine's for the way to itself."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def spawn(tmp_path):
    """Start processes that are dead when the test is over, and not only then if they hang."""
    started = []
    numbers = itertools.count()

    def start(*command, cwd=tmp_path, with_errors_in_output=False, **environment):
        errors = None if with_errors_in_output else tmp_path / f"errors{next(numbers)}"
        with _signals_on(), (errors or Path(os.devnull)).open("w") as sink:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink if errors else subprocess.STDOUT,
                text=True,
                encoding="utf-8",
            )
        watchdog = threading.Timer(PATIENCE_SECONDS, process.kill)
        watchdog.start()
        started.append((process, watchdog))
        return Process(process, errors)

    yield start
    for process, watchdog in started:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def _signals_on():
    """Let a new process heed Ctrl-C, even where this one runs in the background of a shell."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def serve(spawn):
    """Start the server of an example on a free port; return it and its URL."""

    def start(name, *options):
        if name == "twisted_service":
            tac = EXAMPLES / name / "service.tac"
            server = spawn(
                *(sys.executable, "-u", *TWISTD, "--pidfile=", "-ny", tac),
                LISTEN="tcp:0:interface=127.0.0.1",
            )
            url = server.read_until(r"serves (ws://127\.0\.0\.1:\d+/) on Asyncio").group(1)
        else:
            program = EXAMPLES / name / "server.py"
            server = spawn(sys.executable, "-u", program, "--port", "0", *options)
            url = server.read_until(r"^Server started at (ws://127\.0\.0\.1:\d+/)$").group(1)
        return server, url

    return start


def run_client(*command):
    """Return what a client prints; it must end well and complain of nothing."""
    done = subprocess.run(
        [sys.executable, *command],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def output_in_readme(name):
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    return block


def printed_by_a_quiet_server(name):
    """Return a pattern of all that a server prints that had one client, and nothing to regret."""
    if name == "twisted_service":
        return r"((?!.*(#(warn|error|critical)\]|Unhandled|Traceback)).*\n)+"
    if name == "async_views":
        return (
            rf"The clock runs\.\n{BANNER}A client left after 2 calls\.\nThe clock has stopped\.\n"
        )
    return BANNER


def status_of_end(name, number):
    """Twisted's own command ends by the signal, as Unix programs do; ours has ended well."""
    return -number if name == "twisted_service" else 0


@pytest.mark.parametrize("name", NAMES)
def test_client_prints_what_the_readme_shows(serve, name):
    server, url = serve(name)
    assert run_client(EXAMPLES / name / "client.py", url) == output_in_readme(name)
    server.send_signal(signal.SIGTERM)
    assert server.wait() == status_of_end(name, signal.SIGTERM)
    assert re.fullmatch(printed_by_a_quiet_server(name), server.printed)
    assert server.errors == ""


def assert_signal_ends(server, connection, name, number):
    """The server ends by a signal, and closes a connection that is open with 1012."""
    server.send_signal(number)
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(PATIENCE_SECONDS)
    assert getattr(closed.value.rcvd, "code", None) == 1012
    assert server.wait() == status_of_end(name, number)
    assert server.errors == ""


# With one of the two signals behind it: to start a server takes a second.
@pytest.mark.parametrize("name", NAMES)
def test_hello_is_byte_for_byte_the_same_with_websockets_and_autobahn_until_sigterm(serve, name):
    server, url = serve(name)
    with connect(url) as connection:
        # websockets takes and gives str for text messages, bytes for binary ones.
        connection.send(HELLO_REQUEST.decode())
        assert connection.recv(PATIENCE_SECONDS) == HELLO_REPLY.decode()
        connection.send(HELLO_REQUEST_BASE64)
        assert connection.recv(PATIENCE_SECONDS) == HELLO_REPLY_BASE64
        replies = [(False, HELLO_REPLY), (True, HELLO_REPLY_BASE64)]
        assert run_client("-c", AUTOBAHN_CLIENT, url) == f"{replies}\n"
        assert_signal_ends(server, connection, name, signal.SIGTERM)


@pytest.mark.parametrize("name", NAMES)
def test_sigint_ends_the_server_and_closes_its_connections_with_1012(serve, name):
    server, url = serve(name)
    with connect(url) as connection:
        connection.send(HELLO_REQUEST.decode())
        assert connection.recv(PATIENCE_SECONDS) == HELLO_REPLY.decode()
        assert_signal_ends(server, connection, name, signal.SIGINT)


def test_command_of_the_package_serves_the_application_of_an_example(spawn):
    server = spawn(
        *(sys.executable, "-u", "-m", "aiorest_ws", "run", "server:app", "--port", "0"),
        cwd=EXAMPLES / "function_based_api",
        PYTHONDONTWRITEBYTECODE="1",
    )
    url = server.read_until(r"^Server started at (\S+)$").group(1)
    client = EXAMPLES / "function_based_api" / "client.py"
    assert run_client(client, url) == output_in_readme("function_based_api")
    server.send_signal(signal.SIGINT)
    assert server.wait() == 0
    assert re.fullmatch(BANNER, server.printed)
    assert server.errors == ""


def test_tac_serves_in_the_background_until_its_process_is_told_to_end(spawn, tmp_path):
    tac = EXAMPLES / "twisted_service" / "service.tac"
    starter = spawn(sys.executable, *TWISTD, "-y", tac, LISTEN="tcp:0:interface=127.0.0.1")
    assert (starter.wait(), starter.printed, starter.errors) == (0, "", "")
    pid_file, log = tmp_path / "twistd.pid", tmp_path / "twistd.log"
    daemon = int(pid_file.read_text())
    try:
        url = block_until(lambda: re.search(r"serves (\S+) on ", log.read_text())).group(1)
        client = EXAMPLES / "twisted_service" / "client.py"
        assert run_client(client, url) == output_in_readme("twisted_service")
        os.kill(daemon, signal.SIGTERM)
        block_until(lambda: not pid_file.exists())
    finally:
        if pid_file.exists():
            os.kill(daemon, signal.SIGKILL)
    assert re.fullmatch(printed_by_a_quiet_server("twisted_service"), log.read_text())


# Several processes


@pytest.fixture
def redis_server(spawn, tmp_path):
    """A Redis of the test's own: its URL, and the means to stop it."""
    program = require_program("redis-server", package="redis-server")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    files = tmp_path / "redis"
    files.mkdir()
    server = spawn(program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", cwd=files)
    server.read_until("Ready to accept connections")
    return f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def serve_live_orders(serve, redis_server):
    """Start the two workers; return their supervisor and the URL."""

    def start(*options):
        return serve("live_orders", "--topics", redis_server, *options)

    return start


def process_of(url):
    with connect(url) as connection:
        connection.send('{"method": "GET", "url": "/process"}')
        return json.loads(connection.recv(PATIENCE_SECONDS))["data"]


def test_client_of_live_orders_prints_what_the_readme_shows_and_two_processes_serve(
    serve_live_orders,
):
    server, url = serve_live_orders()
    client = EXAMPLES / "live_orders" / "client.py"
    assert run_client(client, url) == output_in_readme("live_orders")
    seen = set()
    block_until(lambda: seen.add(process_of(url)) or len(seen) == 2)
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert server.errors == ""


def test_ticker_sets_prices_for_the_clients_of_another_process(
    serve_live_orders, spawn, redis_server
):
    _, url = serve_live_orders()
    ticker = EXAMPLES / "live_orders" / "ticker.py"
    spawn(sys.executable, ticker, "--topics", redis_server, "--every", "0.05")
    with connect(url) as connection:
        connection.send('{"method": "SUBSCRIBE", "url": "prices"}')
        answer, *pushes = (json.loads(connection.recv(PATIENCE_SECONDS)) for _ in range(9))
    begin = answer["data"]["offset"]
    assert [push["offset"] for push in pushes] == list(range(begin + 1, begin + 9))
    assert {push["data"]["item"] for push in pushes} == {"salt", "tea"}


# The browser


def element(selector):
    return f"document.querySelector({json.dumps(selector)})"


class Browser:
    """A tab of a headless Chromium, told what to do over the DevTools protocol."""

    def __init__(self, connection):
        self._connection = connection
        self._ids = itertools.count(1)
        self.complaints = []
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Return the result of a command."""
        call_id = next(self._ids)
        message = {"id": call_id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._connection.send(json.dumps(message))
        answer = self._receive(lambda message: message.get("id") == call_id)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url):
        """Show a page, and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self._receive(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, script):
        """Return the value of a JavaScript expression, of a promise when it is kept."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def fill_in(self, selector, text):
        """Type into an input of the page."""
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def click(self, selector):
        """Click on an element, where the page has it."""
        x, y = self.run(
            "(({left, top, width, height}) => [left + width / 2, top + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def wait_for(self, selector, text):
        """Wait until the element has exactly that text; the page itself tells."""
        self._wait_until(f"{element(selector)}?.textContent === {json.dumps(text)}")

    def wait_for_text(self, selector, text):
        """Wait until the element has that text somewhere in it."""
        self._wait_until(f"{element(selector)}?.textContent.includes({json.dumps(text)})")

    def _wait_until(self, condition):
        self.run(
            f"""new Promise((resolve, reject) => {{
                const look = () => {{
                    if ({condition}) resolve();
                }};
                new MutationObserver(look).observe(
                    document, {{subtree: true, childList: true, characterData: true}});
                setTimeout(
                    () => reject(new Error(`waited in vain: ${{document.body.innerText}}`)),
                    {PATIENCE_SECONDS} * 500);
                look();
            }})"""
        )

    def text_of(self, selector):
        """Return the text of an element."""
        return self.run(f"document.querySelector({json.dumps(selector)}).textContent")

    def _receive(self, is_wanted):
        while True:
            message = json.loads(self._connection.recv(2 * PATIENCE_SECONDS))
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(message["params"])
            if is_wanted(message):
                return message


@pytest.fixture
def browser(spawn, tmp_path):
    names = ("chromium", "chromium-browser", "google-chrome")
    program = require_program(*names, package="chromium")
    chromium = spawn(
        program,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--remote-debugging-port=0",
        f"--user-data-dir={tmp_path / 'profile'}",
        with_errors_in_output=True,
    )
    url = chromium.read_until(r"^DevTools listening on (ws://\S+)$").group(1)
    # A pipe that nobody reads would stop the browser when it is full.
    reader = threading.Thread(target=chromium.wait, daemon=True)
    reader.start()
    with connect(url, max_size=None) as connection:
        yield Browser(connection)
        connection.send('{"id": 0, "method": "Browser.close"}')
        reader.join()


def test_page_calls_the_server_and_shows_its_replies(serve, spawn, browser):
    files = spawn(
        *(sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"),
        cwd=EXAMPLES / "method_based_api",
    )
    page = files.read_until(r"\((http://\S+)\)").group(1)
    server, url = serve("method_based_api", "--page", page.rstrip("/"))

    browser.open(page)
    browser.fill_in("#url", url)
    browser.click("#connect button")
    browser.wait_for("#status", "Connected.")
    shown = '{"data":[],"event_name":null,"id":1}\n'
    assert browser.run("document.querySelector('#log').textContent") == shown

    browser.fill_in("#text", "Buy milk \N{EM DASH} <b>oat</b> milk")
    browser.click("#add button")
    browser.wait_for("#notes", "Buy milk \N{EM DASH} <b>oat</b> milkDelete")
    note = '{"number":1,"text":"Buy milk \N{EM DASH} <b>oat</b> milk"}'
    shown += f'{{"data":{note},"event_name":null,"id":2}}\n'
    shown += f'{{"data":[{note}],"event_name":null,"id":3}}\n'
    assert browser.run("document.querySelector('#log').textContent") == shown

    browser.click("#add button")
    browser.wait_for("#status", "A note is a text that is not empty.")

    browser.click("#notes button")
    browser.wait_for("#status", "Done.")
    assert browser.run("document.querySelector('#notes').childElementCount") == 0

    server.send_signal(signal.SIGTERM)
    browser.wait_for("#status", "Connection closed: 1012")
    assert server.wait() == 0
    assert re.fullmatch(BANNER, server.printed)
    assert server.errors == ""
    assert browser.complaints == []


def test_page_misses_no_order_when_the_process_that_serves_it_is_killed(
    serve_live_orders, spawn, browser, redis_server
):
    files = spawn(
        *(sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"),
        cwd=EXAMPLES / "live_orders",
    )
    page = files.read_until(r"\((http://\S+)\)").group(1)
    server, url = serve_live_orders("--page", page.rstrip("/"))

    browser.open(page)
    browser.fill_in("#url", url)
    browser.click("#connect button")
    browser.wait_for("#status", "Connected.")
    browser.wait_for_text("#log", "fetched 0")
    browser.fill_in("#quantity", "3")
    browser.click("#add button")
    browser.wait_for("#orders", "1tea3newpaid")

    process = re.search(r"process (\d+)", browser.text_of("#log")).group(1)
    os.kill(int(process), signal.SIGKILL)
    browser.wait_for_text("#log", "closed with 1006")
    # By another process, while the page is away or just back.
    with connect_elsewhere(url, int(process)) as connection:
        for call in (
            {"method": "PUT", "url": "/orders/1", "args": {"state": "paid"}},
            {"method": "POST", "url": "/orders", "args": {"item": "salt", "quantity": 1}},
        ):
            connection.send(json.dumps(call))
            assert "data" in json.loads(connection.recv(PATIENCE_SECONDS))
    browser.wait_for("#orders", "1tea3paidsent2salt1newpaid")
    browser.wait_for("#status", "Connected.")
    # It was told what it had missed, and did not ask.
    assert browser.text_of("#log").count("fetched") == 1

    spawn(sys.executable, EXAMPLES / "live_orders" / "ticker.py", "--topics", redis_server)
    browser.wait_for_text("#prices", "salt 1.2")
    browser.click("#orders button")
    browser.wait_for("#orders", "1tea3sent2salt1newpaid")

    server.send_signal(signal.SIGTERM)
    browser.wait_for_text("#log", "closed with 1012")
    assert server.wait() == 0
    # The browser itself says that a server refuses connections.
    scripts = [said for said in browser.complaints if "exceptionDetails" in said]
    assert scripts == []


@contextmanager
def connect_elsewhere(url, process):
    """Connect to a server that another process serves by now."""
    assert block_until(lambda: process_of(url) != process)
    with connect(url) as connection:
        yield connection
