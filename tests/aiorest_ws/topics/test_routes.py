"""Topics that a router registers."""

import re

import pytest

from aiorest_ws.routers import SimpleRouter


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (ValueError, {"policy": "drop"}, "policy must be one of block, drop_oldest"),
        (ValueError, {"policy": None}, "policy must be one of"),
        (ValueError, {"history": -1}, "history must be a number of messages, not -1"),
        (ValueError, {"history": True}, "history must be"),
        (ValueError, {"history": 1.5}, "history must be"),
        (TypeError, {"on_subscribe": "f"}, "on_subscribe must be callable, not 'f'"),
        (TypeError, {"permission_classes": [object]}, "has no check()"),
        (TypeError, {"pattern": 7}, "a topic must be a string, not 7"),
    ],
)
def test_what_cannot_be_registered_is_told_at_once(kind, options, words):
    router = SimpleRouter()
    with pytest.raises(kind, match=re.escape(words)):
        router.register_topic(**{"pattern": "a", **options})
    assert not len(router.topics)


@pytest.mark.parametrize("text", ["a", "a/{x}"])
def test_a_topic_is_registered_once(text):
    router = SimpleRouter()
    router.register_topic(text)
    with pytest.raises(ValueError, match="registered already"):
        router.register_topic(text)


def test_a_name_comes_before_a_family_then_the_order_of_registration():
    router = SimpleRouter()
    for text in ("a/{x}", "a/{y}", "{z}/b", "a/b"):
        router.register_topic(text)
    found = {name: router.topics.find(name) for name in ("a/b", "a/c", "c/b", "c/d", "a")}
    assert [route and route[0].pattern.text for route in found.values()] == [
        "a/b",
        "a/{x}",
        "{z}/b",
        None,
        None,
    ]
    assert found["a/c"][1] == {"x": "c"}
    # What has been found before does not hide what is registered later.
    router.register_topic("a/c")
    assert router.topics.find("a/c")[0].pattern.text == "a/c"


def test_a_router_serves_the_topics_that_it_includes():
    inner, outer = SimpleRouter(), SimpleRouter()
    inner.register_topic("a/{x}", history=7)
    outer.register_topic("b")
    outer.include(inner)
    assert outer.topics.find("a/1")[0].history == 7
    assert inner.topics.find("b") is None
    with pytest.raises(ValueError, match="registered already"):
        outer.include(inner)


def test_very_many_names_that_are_asked_for_are_not_remembered():
    router = SimpleRouter()
    router.register_topic("a/{x}")
    for number in range(10_000):
        assert router.topics.find(f"a/{number}")[1] == {"x": str(number)}
        assert router.topics.find(f"b/{number}") is None
    kept = [one for one in vars(router.topics).values() if isinstance(one, dict)]
    assert 0 < max(map(len, kept)) <= 4096
