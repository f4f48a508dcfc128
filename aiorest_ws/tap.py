"""`twist aiorest-ws`: the options and the service of the Twisted plugin."""

from typing import Any

from twisted.python import usage

from aiorest_ws.app import Application, load_application
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.limits import Limits
from aiorest_ws.log import LEVELS
from aiorest_ws.serving.service import ApplicationService
from aiorest_ws.transports.reactor import install_reactor

__all__ = ("Options", "makeService")


class Options(usage.Options):
    """Options of `twist aiorest-ws`."""

    synopsis = "[options]"
    longdesc = "Serve an aiorest-ws Application or router."
    optParameters = (
        ("app", "a", None, "package.module:name of an Application or a router."),
        ("listen", "l", "tcp:8080", "Server endpoint string: tcp:8080, unix:/run/a.sock, ..."),
        ("path", "p", "", "Path of the server's URL."),
        ("workers", None, 1, "Processes that serve.", int),
        ("topics", None, None, "memory, or the URL of a Redis server."),
        ("certificate", None, None, "PEM file; with --key the server speaks wss://."),
        ("key", None, None, "PEM file."),
        ("ssl-ca-certs", None, None, "PEM file; clients need a certificate signed by these."),
        ("ssl-keyfile-password", None, None, "Password of an encrypted --key."),
        ("log-level", None, "info", f"One of {', '.join(LEVELS)}."),
        *(
            (name.replace("_", "-"), None, None, f"Limit: {meaning} ({default}).")
            for name, default, meaning in Limits.options()
        ),
    )
    optFlags = (
        ("compress", None, "Offer permessage-deflate."),
        ("access-log", None, "Log each reply."),
        ("no-ssl-reload", None, "Keep certificates until the end."),
    )

    def postOptions(self) -> None:
        """Install the reactor, before twist does, and load the application."""
        if not self["app"]:
            raise usage.UsageError("--app is required: package.module:name")
        if self["log-level"] not in LEVELS:
            raise usage.UsageError(f"--log-level must be one of {', '.join(LEVELS)}")
        if self["workers"] < 1:
            raise usage.UsageError("--workers must be at least 1")
        install_reactor()
        names = [name for name, _, _ in Limits.options()]
        given = {name: self[name.replace("_", "-")] for name in names}
        try:
            application = self["application"] = load_application(self["app"])
            application.limits = application.limits_with(
                {name: text for name, text in given.items() if text is not None}
            )
            if self["topics"] is not None:
                application.topics = self["topics"]
            application.access_log = application.access_log or bool(self["access-log"])
            self._set_tls(application)
        except ImproperlyConfigured as exc:
            raise usage.UsageError(str(exc)) from exc

    def _set_tls(self, application: Application) -> None:
        if self["certificate"] or self["key"]:
            application.certificate, application.key = self["certificate"], self["key"]
        if self["ssl-ca-certs"]:
            application.ssl_ca_certs = self["ssl-ca-certs"]
        if self["ssl-keyfile-password"] is not None:
            application.ssl_keyfile_password = self["ssl-keyfile-password"]
        application.ssl_reload = application.ssl_reload and not self["no-ssl-reload"]


def makeService(options: Any) -> ApplicationService:
    """Return the service for parsed options."""
    return options["application"].service(  # type: ignore[no-any-return]
        listen=options["listen"],
        path=options["path"],
        log_level=options["log-level"],
        compress=bool(options["compress"]),
        workers=options["workers"],
    )
