"""A server that logs JSON, one object per line."""

import json
import logging

from aiorest_ws import Application
from first_server import router

FIELDS = (
    *("event", "peer", "request_id", "status", "milliseconds", "bytes"),
    *("limit", "code"),
)


class JSONFormatter(logging.Formatter):
    def format(self, record):
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: getattr(record, name) for name in FIELDS if hasattr(record, name)
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


handler = logging.StreamHandler()
handler.setFormatter(JSONFormatter())
logging.basicConfig(level=logging.INFO, handlers=[handler])

app = Application(router=router, access_log=True)
