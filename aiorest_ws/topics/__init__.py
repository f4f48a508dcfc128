"""Topics: what a server tells its clients without being asked, kept for those who were away."""

from aiorest_ws.topics.broker import Position
from aiorest_ws.topics.handle import Topic
from aiorest_ws.topics.publisher import Publisher, connect

__all__ = ("Position", "Publisher", "Topic", "connect")
