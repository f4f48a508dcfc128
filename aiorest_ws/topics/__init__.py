"""Topics: what a server tells its clients without being asked, kept for those who were away."""

from aiorest_ws.topics.broker import Position
from aiorest_ws.topics.publisher import Publisher, connect
from aiorest_ws.topics.routes import Snapshot, Topic

__all__ = ("Position", "Publisher", "Snapshot", "Topic", "connect")
