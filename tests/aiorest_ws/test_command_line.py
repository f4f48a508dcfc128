"""Options from the command line."""

import pytest

from aiorest_ws.command_line import CommandLine


@pytest.fixture
def arguments(monkeypatch):
    return lambda *given: monkeypatch.setattr("sys.argv", ["program", *given])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), {"port": 8080, "host": None}),
        (("--port", "9000"), {"port": 9000, "host": None}),
        (("--host", "::1", "--port=1"), {"port": 1, "host": "::1"}),
    ],
)
def test_options_have_types_and_defaults(arguments, given, expected):
    options = CommandLine()
    options.define("--port", default=8080, help="port to listen on", type=int)
    options.define("--host")
    arguments(*given)
    assert vars(options.parse_command_line()) == expected


def test_positional_argument(arguments):
    options = CommandLine()
    options.define("app", help="package.module:name")
    arguments("shop:router")
    assert options.parse_command_line().app == "shop:router"


@pytest.mark.parametrize("name", ["--port", "-p", "--help", "-h"])
def test_a_repeated_definition_is_ignored(arguments, name):
    options = CommandLine()
    for default in (1, 2):
        options.define(name, default=default, type=int)
    arguments()
    found = vars(options.parse_command_line())
    assert found == ({} if name in {"-h", "--help"} else {name.strip("-"): 1})


def test_a_repeated_positional_argument_is_ignored(arguments):
    options = CommandLine()
    options.define("app")
    options.define("app", type=int)
    arguments("name")
    assert vars(options.parse_command_line()) == {"app": "name"}


def test_instances_share_nothing(arguments):
    first, second = CommandLine(), CommandLine()
    first.define("--port", default=1, type=int)
    second.define("--host", default="a")
    arguments()
    assert vars(first.parse_command_line()) == {"port": 1}
    assert vars(second.parse_command_line()) == {"host": "a"}


def test_a_wrong_command_line_ends_the_program(arguments, capsys):
    options = CommandLine()
    options.define("--port", help="port to listen on", type=int)
    arguments("--port", "x")
    with pytest.raises(SystemExit) as ended:
        options.parse_command_line()
    assert ended.value.code == 2
    assert "--port: invalid int value: 'x'" in capsys.readouterr().err


def test_help_shows_the_options(arguments, capsys):
    options = CommandLine()
    options.define("--port", help="port to listen on", type=int)
    arguments("--help")
    with pytest.raises(SystemExit) as ended:
        options.parse_command_line()
    assert ended.value.code == 0
    assert "port to listen on" in capsys.readouterr().out
