"""Publish the state of an order: python publish_elsewhere.py ORDER STATE."""

import os
import sys

from aiorest_ws.topics import connect

order, state = sys.argv[1:]
with connect(os.environ["TOPICS_URL"]) as publisher:
    position = publisher.publish(f"orders/{order}", {"state": state}, wait_seconds=5)
print(position.offset)
