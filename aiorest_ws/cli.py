"""The `aiorest-ws` command."""

import argparse
import sys
from collections.abc import Sequence

from twisted.internet.error import CannotListenError

from aiorest_ws.app import load_application
from aiorest_ws.demo import run_demo
from aiorest_ws.exceptions import ImproperlyConfigured, TopicsUnavailable
from aiorest_ws.limits import Limits
from aiorest_ws.log import LEVELS
from aiorest_ws.transports.reactor import install_reactor
from aiorest_ws.version import __version__

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0, 1 for a failure, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "demo":
            run_demo(options.port, once=options.once)
        else:
            _run(options)
    except (CannotListenError, ImproperlyConfigured, OSError, TopicsUnavailable) as exc:
        print(f"aiorest-ws: {exc}", file=sys.stderr)  # noqa: T201  the output of the command
        return 2 if isinstance(exc, ImproperlyConfigured) else 1
    except SystemExit as exc:
        if not isinstance(exc.__cause__, ImproperlyConfigured):
            raise
        print(exc.code, file=sys.stderr)  # noqa: T201  the output of the command
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    # Before the application is imported: it may import Twisted's reactor.
    install_reactor()
    application = load_application(options.app)
    if options.certificate or options.key:
        application.certificate, application.key = options.certificate, options.key
    if options.ssl_ca_certs:
        application.ssl_ca_certs = options.ssl_ca_certs
    if options.ssl_keyfile_password is not None:
        application.ssl_keyfile_password = options.ssl_keyfile_password
    application.ssl_reload = application.ssl_reload and not options.no_ssl_reload
    names = [name for name, _, _ in Limits.options()]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    application.limits = application.limits_with(given)
    application.access_log = application.access_log or options.access_log
    if options.topics is not None:
        application.topics = options.topics
    application.run(
        host=options.host,
        port=options.port,
        path=options.path,
        log_level=options.log_level,
        compress=options.compress,
        workers=options.workers,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aiorest-ws", description="REST-style calls over WebSockets."
    )
    parser.add_argument("--version", action="version", version=f"aiorest-ws {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="serve an application or a router")
    run.add_argument("app", help="package.module:name of an Application or a router")
    run.add_argument("--host", default="127.0.0.1", help="interface to listen on (%(default)s)")
    run.add_argument("--port", type=_port, default=8080, help="TCP port, 0 for any (%(default)s)")
    run.add_argument("--path", default="", help="path of the server's URL")
    run.add_argument("--workers", type=_workers, default=1, help="processes (%(default)s)")
    run.add_argument("--topics", metavar="URL", help="memory, or the URL of a Redis server")
    run.add_argument("--log-level", choices=LEVELS, default="info", help="%(default)s")
    run.add_argument("--compress", action="store_true", help="offer permessage-deflate")
    run.add_argument("--certificate", help="PEM file; with --key the server speaks wss://")
    run.add_argument("--key", help="PEM file")
    run.add_argument(
        "--ssl-ca-certs",
        metavar="FILE",
        help="PEM file; clients need a certificate signed by these",
    )
    run.add_argument("--ssl-keyfile-password", metavar="PASSWORD", help="of an encrypted --key")
    run.add_argument(
        "--no-ssl-reload", action="store_true", help="keep certificates until the end"
    )

    run.add_argument("--access-log", action="store_true", help="log each reply")
    limits = run.add_argument_group("limits", "`none` means no limit, where that is allowed")
    for name, default, meaning in Limits.options():
        limits.add_argument(
            f"--{name.replace('_', '-')}", metavar="N", help=f"{meaning} ({default})"
        )

    demo = commands.add_parser("demo", help="serve a small API and call it")
    demo.add_argument("--port", type=_port, help="TCP port (8080, or a free one if it is busy)")
    demo.add_argument("--once", action="store_true", help="exit when all calls are answered")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a TCP port")
    return port


def _workers(text: str) -> int:
    workers = int(text)
    if workers < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return workers
