"""Makes `native:` endpoint strings known to Twisted: `twist web --listen native:tcp:8080`."""

from aiorest_ws.native import NativeParser

native = NativeParser()
