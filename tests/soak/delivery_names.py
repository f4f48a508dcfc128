"""The topics of the delivery proofs: of most all is kept that a run publishes, of some little."""

HISTORIES = {"kept": 4096, "short": 4}
SHORT_PART = 10  # one in so many topics


def topic_names(count: int) -> list[str]:
    return [
        f"short/{number}" if number % SHORT_PART == SHORT_PART - 1 else f"kept/{number}"
        for number in range(count)
    ]


def history_of(topic: str) -> int:
    return HISTORIES[topic.partition("/")[0]]
