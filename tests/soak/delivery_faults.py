"""Faults to plant in a server, so that a proof can be seen to fail."""

from twisted.internet.task import deferLater

from aiorest_ws.topics import replay
from aiorest_ws.topics.hub import Hub
from aiorest_ws.topics.redis.sender import Backoff
from aiorest_ws.topics.replay import Replays
from aiorest_ws.topics.subscription import Subscription

EACH = 20  # one in so many is treated badly
LOOK_SECONDS = 0.05


def skip_one() -> None:
    """Leave one offset out for one of the subscribers."""
    fan_out = Hub._fan_out

    def skipping(self, topic, message):
        if message.offset % EACH == 0:
            for _, _, subscriptions in topic.groups():
                if subscriptions[0].sent == message.offset - 1:
                    subscriptions[0].sent = message.offset
                    break
        fan_out(self, topic, message)

    Hub._fan_out = skipping


def replay_late() -> None:
    """Send what was missed after the first live message."""

    async def until_live(self, subscription):
        topic = self._topics[subscription.name]
        held = await self._replay(subscription.name, subscription.position)
        subscription.batch, subscription.has_gap = None, False
        now = subscription.sent = topic.seen
        topic.start_live(subscription)
        while subscription.sent == now and not subscription.is_ended:
            await deferLater(self._reactor, LOOK_SECONDS)
        for message in held.messages:
            subscription.connection.send_push(subscription.payload(message.body), False)

    Replays.until_live = until_live


def replay_twice() -> None:
    """Send the last message of each replay twice."""
    send_replay = replay._send_replay

    def doubling(subscription, replay):
        send_replay(subscription, replay)
        for message in replay.messages[-1:]:
            subscription.connection.send_push(subscription.payload(message.body), False)

    replay._send_replay = doubling


def conceal_gaps() -> None:
    """Do not tell of what is missing."""

    def send_gap(self, offset):
        self.sent, self.has_gap = offset, False

    Subscription.send_gap = send_gap


def lose_the_end() -> None:
    """Lose for good what is published while a client is away."""
    find_place = Replays.find_place

    async def forgetting(self, subscription, since):
        await find_place(self, subscription, since)
        subscription.batch, subscription.has_gap = None, False
        subscription.epoch = since.epoch
        subscription.sent = self._topics[subscription.name].seen

    Replays.find_place = forgetting


def hammer() -> None:
    """Try to reach Redis again almost at once."""
    Backoff.next = lambda self: LOOK_SECONDS
