"""The tree of templates against a scan of all of them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiorest_ws.dispatch import segments
from aiorest_ws.dispatch.segments import SegmentTree
from aiorest_ws.endpoints import DynamicEndpoint
from aiorest_ws.parsers import DYNAMIC_PARAMETER, URLParser

# No test hangs on the speed of the machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

LITERALS = ("a", "b", "", "v1", "v1.0", "x-1.json", "a-b")
SHAPES = (
    *("{}", "{}", "v{}", "v{}.{}", "x-{}.json", "{}{}", "{}.{}", "{}-{}", "a{}", "{}a", "{}a{}"),
    *("{}.json", "{}--{}.{}", "a{}b", "é{}", "{}\n"),
)
PIECES = (*LITERALS, *SHAPES)
VALUES = ("a", "b", "1", "1.0", "-", ".", "aa", "a-b", "json", "é", "\n", "x-1.json", " ", "::")


def leaf_of(found):
    return None if found is None else found[0]


@st.composite
def templates(draw):
    """A path template; the names of its parameters say nothing."""
    shape = "/".join(["", *draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4)), ""])
    names = draw(st.permutations([f"p{n}" for n in range(12)]))
    for name in names[: shape.count("{}")]:
        shape = shape.replace("{}", f"{{{name}}}", 1)
    return shape


@st.composite
def filled(draw, template):
    """A path that a template is meant for."""
    return DYNAMIC_PARAMETER.sub(lambda _: draw(st.sampled_from(VALUES)), template)


@st.composite
def cases(draw):
    known = draw(st.lists(templates(), min_size=1, max_size=12))
    strange = st.text("abvx-.1{}/\n é", max_size=12)
    path = draw(
        st.one_of(
            st.sampled_from(known).flatmap(filled),
            templates().flatmap(filled),
            strange,
            strange.map(lambda text: f"/{text}/"),
            st.lists(st.sampled_from(VALUES), max_size=4).map(lambda v: "/".join(["", *v, ""])),
        )
    )
    return known, path


@settings(UNHURRIED, max_examples=400)
@given(cases())
def test_the_tree_finds_what_a_scan_in_order_of_registration_finds(case):
    known, path = case
    tree = SegmentTree()
    endpoints = []
    for template in known:
        endpoint = URLParser().define_route(template, None, "GET")
        if isinstance(endpoint, DynamicEndpoint):  # the plain ones have a dict of their own
            endpoints.append(endpoint)
            tree.add(template, endpoint)
    whole = path if path.endswith("/") else f"{path}/"
    scanned = next((e for e in endpoints if e.match(whole) is not None), None)
    found = tree.find(path)
    if found is None:
        assert scanned is None
        return
    endpoint, values = found
    assert endpoint is scanned
    # Where the tree tells the values itself, they are those of the template's own pattern.
    assert values is None or tuple(values) == scanned.match(whole)


@pytest.mark.parametrize(
    ("known", "path", "found"),
    [
        (["/{a}/"], "/x/", "/{a}/"),
        (["/{a}/"], "//", None),
        (["/{a}/"], "/x", "/{a}/"),
        (["/{a}/{b}/"], "/x/", None),
        (["/v{a}/{b}/"], "/v1/x", "/v{a}/{b}/"),
        (["/{a}/"], "/x/y/", None),
        (["/{a}/"], "/{a}/", None),
        (["/{a}/"], "/a}/", None),
        (["/{a}/{b}/"], "/x//", None),
        (["/{a}/", "/x-{b}/"], "/x-1/", "/{a}/"),
        (["/x-{b}/", "/{a}/"], "/x-1/", "/x-{b}/"),
        (["/x-{b}/", "/{a}/"], "/x-/", "/{a}/"),
        (["/v{major}.{minor}/x-{id}.json/"], "/v1.2/x-7.json/", "/v{major}.{minor}/x-{id}.json/"),
        (["/v{major}.{minor}/"], "/v1/", None),
        (["/v{major}.{minor}/"], "/v1./", None),
        (["/v{major}.{minor}/"], "/v../", None),
        (["/v{major}.{minor}/"], "/v.../", "/v{major}.{minor}/"),
        (["/{a}{b}/"], "/x/", None),
        (["/{a}{b}/"], "/xy/", "/{a}{b}/"),
        (["/a{x}a/"], "/aa/", None),
        (["/ab{x}ba/"], "/aba/", None),
        # A branch that fits longer but leads nowhere.
        (["/a/{x}/end/", "/{y}/b/"], "/a/b/", "/{y}/b/"),
        (["/{x}/{y}/c/", "/a/{z}/d/"], "/a/b/d/", "/a/{z}/d/"),
        (["/{x}/b/", "/a/{y}/"], "/a/b/", "/{x}/b/"),
        (["/{x}/\u2028{y}/"], "/a/\u2028b/", "/{x}/\u2028{y}/"),
    ],
)
def test_a_path_finds_its_template(known, path, found):
    tree = SegmentTree()
    for template in known:
        tree.add(template, template)
    assert leaf_of(tree.find(path)) == found


@pytest.mark.parametrize(
    ("known", "path", "values"),
    [
        (["/{a}/"], "/x/", ["x"]),
        (["/a/{x}/b/{y}/"], "/a/1/b/2/", ["1", "2"]),
        (["/a/{x}/", "/a/{x}/{y}/"], "/a/1/", ["1"]),
        (["/a/{x}/", "/a/{x}/{y}/"], "/a/1/2/", ["1", "2"]),
        (["/v{major}/"], "/v1/", None),
        (["/a/{x}/", "/{y}/b/"], "/a/b/", None),
    ],
)
def test_values_of_whole_segments_come_with_the_leaf(known, path, values):
    tree = SegmentTree()
    for template in known:
        tree.add(template, template)
    assert tree.find(path)[1] == values


def test_of_two_templates_with_one_shape_the_first_stays():
    tree = SegmentTree()
    tree.add("/users/{id}/", "first")
    tree.add("/users/{name}/", "second")
    assert leaf_of(tree.find("/users/1/")) == "first"


def test_an_empty_tree_finds_nothing():
    assert SegmentTree().find("/") is None
    assert SegmentTree().find("") is None


@pytest.fixture
def count(monkeypatch):
    """Count what a look-up visits and what it compares with the literals of a segment."""
    visits = []
    following, match = segments._Node.following, segments.match_segment

    def counted_following(node, segment):
        visits.append(segment)
        for after in following(node, segment):
            visits.append(segment)
            yield after

    def counted_match(literals, segment):
        visits.append(segment)
        return match(literals, segment)

    monkeypatch.setattr(segments._Node, "following", counted_following)
    monkeypatch.setattr(segments, "match_segment", counted_match)

    def visited(tree, path):
        visits.clear()
        # What `find` does before it comes to this is one look-up for each segment.
        return leaf_of(tree._find_among_many(path.split("/"))), len(visits)

    return visited


FAMILIES = [
    ("/items-{n}/{{id}}/", "/items-{n}/7/"),
    ("/{{id}}/items-{n}/", "/7/items-{n}/"),
    ("/api/{n}/{{a}}/{{b}}/", "/api/{n}/1/2/"),
    ("/{{a}}/{{b}}/{n}/{{c}}/", "/1/2/{n}/3/"),
    ("/v{n}-{{minor}}/", "/v{n}-1/"),
    ("/{{name}}.{n}/", "/a.{n}/"),
    ("/x-{n}-{{a}}.{{b}}/", "/x-{n}-1.2/"),
    ("/{{a}}.{{b}}-{n}/z/", "/1.2-{n}/z/"),
]


def lookup_cost(count, template, path, routes):
    tree = SegmentTree()
    for n in range(1000, 1000 + routes):
        tree.add(template.format(n=n), n)
    wanted = 1000 + routes - 1
    found, cost = count(tree, path.format(n=wanted))
    assert found == wanted
    missed, cost_of_a_miss = count(tree, path.format(n=5555))
    assert missed is None
    return cost, cost_of_a_miss


@pytest.mark.parametrize(("template", "path"), FAMILIES)
def test_a_look_up_costs_the_same_for_1_and_for_1000_templates(count, template, path):
    alone = lookup_cost(count, template, path, routes=1)
    assert lookup_cost(count, template, path, routes=1000) == alone
    assert min(alone) > 0


def test_a_look_up_among_all_kinds_costs_no_more_than_there_are_kinds(count):
    tree = SegmentTree()
    for n in range(1000, 1125):
        for template, _ in FAMILIES:
            tree.add(template.format(n=n), template)
    for template, path in FAMILIES:
        found, cost = count(tree, path.format(n=1124))
        assert found in {known for known, _ in FAMILIES}, template
        # A path of four segments can be in a few branches at once, never in 125.
        assert cost < 40
