"""`Limits`: what may be set, where, and what is refused."""

import dataclasses
import resource

import pytest
from twisted.python.usage import UsageError

from aiorest_ws import cli, tap
from aiorest_ws.app import Application
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter

# design.md, section 4
DEFAULTS = {
    "message_bytes": 1024**2,
    "messages_per_second": None,
    "handshake_bytes": 16 * 1024,
    "handshake_seconds": 5,
    "early_bytes": 64 * 1024,
    "connections": None,
    "connections_per_address": None,
    "allowed_origins": (),
    "allowed_hosts": None,
    "trusted_proxies": (),
    "ping_seconds": 20,
    "pong_seconds": 20,
    "closing_seconds": 5,
    "calls_in_flight": 64,
    "waiting_bytes": 256 * 1024,
    "blocking_per_connection": None,
    "call_seconds": None,
    "streams": 32,
    "subscriptions": 128,
    "push_bytes": 1024**2,
    "presence_bytes": 1024,
    "history_bytes": 1024**2,
    "history_seconds": 300,
    "messages_per_second_per_user": None,
    "unsent_pause_bytes": 64 * 1024,
    "unsent_bytes": 16 * 1024**2,
    "unsent_seconds": 30,
    "unsent_bytes_in_all": 256 * 1024**2,
    "drain_seconds": 30,
    "reconnect_milliseconds": (250, 5000),
    "blocked_seconds": None,
}


TEXTS = {
    "allowed_origins": "https://a.example",
    "trusted_proxies": "10.0.0.0/8, unix",
    "reconnect_milliseconds": "7-8",
}


def test_every_default_is_that_of_the_design():
    assert dataclasses.asdict(Limits()) == DEFAULTS


def test_a_limit_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().message_bytes = 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, -1) for name, default in DEFAULTS.items() if not isinstance(default, tuple)),
        ("message_bytes", 0),
        ("message_bytes", 1.5),
        ("message_bytes", True),
        ("message_bytes", None),
        ("message_bytes", "1"),
        ("connections", 0),
        ("call_seconds", float("nan")),
        ("call_seconds", float("inf")),
        ("call_seconds", 0),
        ("unsent_seconds", None),
        ("allowed_origins", "https://a.example"),
        ("allowed_origins", None),
        ("allowed_origins", ("www.example.com",)),
        ("allowed_origins", ("https://a.example/",)),
        ("allowed_origins", ("https://a.example/page",)),
        ("allowed_origins", ("https://*",)),
        ("allowed_hosts", ("a.example:8080",)),
        ("allowed_hosts", ("https://a.example",)),
        ("allowed_hosts", ("a.*.example",)),
        ("allowed_hosts", (1,)),
        ("allowed_hosts", ("",)),
        ("trusted_proxies", ("10.0.0.1/8",)),
        ("trusted_proxies", ("proxy.example",)),
        ("reconnect_milliseconds", (5000, 250)),
        ("reconnect_milliseconds", (250,)),
        ("reconnect_milliseconds", (-1, 250)),
        ("reconnect_milliseconds", (1.5, 250)),
        ("reconnect_milliseconds", 250),
        ("reconnect_milliseconds", (0, 10**9)),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(ImproperlyConfigured, match=name):
        Limits(**{name: value})


def test_a_name_that_does_not_exist_is_refused():
    with pytest.raises(TypeError):
        Limits(message_byte=1)


def test_sequences_are_kept_as_tuples():
    assert Limits(allowed_hosts=["a", "b"]).allowed_hosts == ("a", "b")


def test_connections_keep_clear_of_the_descriptors_of_the_process():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (777, hard))
        assert Limits().connections_at_most() == 677
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert Limits(connections=5).connections_at_most() == 5


def test_texts_of_a_command_line_become_limits():
    texts = {
        "message_bytes": "65536",
        "call_seconds": "2.5",
        "connections": "none",
        "allowed_hosts": "a.example, *.b.example",
        "trusted_proxies": "",
        "reconnect_milliseconds": "0-100",
    }
    assert Limits.from_texts(texts) == Limits(
        message_bytes=65536,
        call_seconds=2.5,
        allowed_hosts=("a.example", "*.b.example"),
        reconnect_milliseconds=(0, 100),
    )


@pytest.mark.parametrize(
    "texts", [{"message_bytes": "1.5"}, {"message_bytes": "none"}, {"call_seconds": "soon"}]
)
def test_texts_that_are_no_numbers_are_refused_by_name(texts):
    with pytest.raises(ImproperlyConfigured, match=next(iter(texts))):
        Limits.from_texts(texts)


def test_a_factory_takes_limits_and_tells_autobahn():
    factory = RequestHandlerFactory(
        limits=Limits(message_bytes=7, handshake_seconds=1, closing_seconds=2, ping_seconds=3)
    )
    assert factory.limits.message_bytes == factory.maxMessagePayloadSize == 7
    assert factory.openHandshakeTimeout == 1
    assert factory.closeHandshakeTimeout == 2
    assert (factory.autoPingInterval, factory.autoPingTimeout) == (3, 20)
    assert factory.server == "aiorest-ws"


def test_a_factory_refuses_other_things_than_limits():
    with pytest.raises(TypeError, match="limits"):
        RequestHandlerFactory(limits={"message_bytes": 7})


def test_an_application_gives_its_limits_to_its_factory():
    class WithDatabase(RequestHandlerFactory):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.database = {}

    limits = Limits(calls_in_flight=3)
    app = Application(factory=WithDatabase, router=SimpleRouter(), limits=limits)
    assert app.generate_factory().limits is limits


# The command and the plugin have an option for each


@pytest.fixture
def application(monkeypatch):
    app = Application(router=SimpleRouter(), limits=Limits(calls_in_flight=3, drain_seconds=1))
    for module in (cli, tap):
        monkeypatch.setattr(module, "load_application", lambda _: app)
    monkeypatch.setattr(app, "run", lambda **_: None)
    return app


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_limit_is_an_option_of_the_command(application, name):
    value = TEXTS.get(name, "7")
    cli.main(["run", "any:app", f"--{name.replace('_', '-')}", value])
    changed = dataclasses.replace(
        Limits(calls_in_flight=3, drain_seconds=1),
        **{name: getattr(Limits.from_texts({name: value}), name)},
    )
    assert application.limits == changed


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_limit_is_an_option_of_twist(application, name):
    value = TEXTS.get(name, "7")
    options = tap.Options()
    options.parseOptions(["--app", "any:app", f"--{name.replace('_', '-')}", value])
    assert getattr(application.limits, name) == getattr(Limits.from_texts({name: value}), name)
    assert application.limits.calls_in_flight == (7 if name == "calls_in_flight" else 3)


def test_a_wrong_limit_is_a_wrong_option(application, capsys):
    assert cli.main(["run", "any:app", "--message-bytes", "many"]) == 2
    assert "message_bytes must be an integer, not 'many'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="message_bytes"):
        tap.Options().parseOptions(["--app", "any:app", "--message-bytes", "0"])


def test_the_access_log_is_an_option_of_both(application):
    cli.main(["run", "any:app"])
    assert not application.access_log
    cli.main(["run", "any:app", "--access-log"])
    assert application.access_log
    application.access_log = False
    tap.Options().parseOptions(["--app", "any:app", "--access-log"])
    assert application.access_log
