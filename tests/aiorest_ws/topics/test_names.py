"""Names of topics, and patterns of names."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics.names import Pattern, check_name, is_name

SEGMENTS = st.text(
    st.characters(exclude_characters="/{}*?[]", exclude_categories=["Cs", "Z", "C"]),
    min_size=1,
    max_size=40,
)
NAMES = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


@given(NAMES)
def test_a_name_of_segments_is_a_name_up_to_200_bytes(name):
    assert is_name(name) == (len(name.encode()) <= 200)


@given(NAMES, st.sampled_from([*"{}*?[] \t\n\r\x00\x1f\x7f\u2003\x85\u2028"]), st.integers(0, 50))
def test_a_name_has_no_blanks_nor_marks_of_patterns(name, mark, where):
    assert not is_name(name[:where] + mark + name[where:])


@pytest.mark.parametrize("name", ["", "/", "/a", "a/", "a//b", "a\n", "é" * 101, "x" * 201])
def test_what_is_no_name_is_refused_with_a_reason(name):
    assert not is_name(name)
    with pytest.raises(ValueError, match="cannot be the name of a topic"):
        check_name(name)


@pytest.mark.parametrize("name", [None, 7, b"a"])
def test_only_a_string_is_a_name(name):
    with pytest.raises(ValueError, match="cannot be the name"):
        check_name(name)


@given(NAMES, NAMES, NAMES)
@example("a", "b", "c.+")
def test_a_pattern_matches_what_its_parameters_make_of_it(before, value, after):
    text = f"{before}/{{one}}/{after}"
    assume(is_name(f"{before}/x/{after}"))
    pattern = Pattern(text)
    values = pattern.match(f"{before}/{value}/{after}")
    if "/" in value or not is_name(f"{before}/{value}/{after}"):
        assert values is None or values["one"] != value
    else:
        assert values == {"one": value}


@given(NAMES)
def test_a_pattern_without_parameters_matches_itself_only(name):
    if not is_name(name) or not is_name(name + "x"):
        return
    assert Pattern(name).match(name) == {}
    assert Pattern(name).match(name + "x") is None
    assert Pattern(name + "x").match(name) is None


def test_a_parameter_is_a_part_of_one_segment():
    pattern = Pattern("a/{x}-{y}/c")
    assert pattern.match("a/1-2/c") == {"x": "1", "y": "2"}
    for name in ("a/1-/c", "a/-/c", "a/1-2/3/c", "a/1/2/c", "b/1-2/c", "a/1-2/cc", "a/1-2/c/"):
        assert pattern.match(name) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "a b",
        "{}",
        "a/{x",
        "a/x}",
        "{1x}",
        "{x}/{x}",
        "{x y}",
        "a/*",
        "{x/y}",
    ],
)
def test_a_pattern_that_can_match_nothing_cannot_be_registered(text):
    with pytest.raises(ValueError, match=r"cannot be the name|not a valid parameter name|twice"):
        SimpleRouter().register_topic(text)
