"""A tree of path segments: the number of routes does not change the cost of a look-up."""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from aiorest_ws.endpoints import DYNAMIC_PARAMETER, match_segment

__all__ = ("SegmentTree",)

Leaf = TypeVar("Leaf")


class _Node(Generic[Leaf]):
    """The segments that may follow a prefix: literals, a parameter, or a mix of both.

    Mixed segments (`v{major}.json`) are found by the literal text at their ends.
    """

    __slots__ = ("any", "leaf", "literal", "partial", "shapes")

    def __init__(self) -> None:
        self.literal: dict[str, _Node[Leaf]] = {}
        self.any: _Node[Leaf] | None = None
        self.shapes: set[tuple[int, int]] = set()
        self.partial: dict[tuple[str, str], dict[str, _Node[Leaf]]] = {}
        self.leaf: tuple[int, Leaf] | None = None

    def child(self, segment: str) -> "_Node[Leaf]":
        names_and_text = DYNAMIC_PARAMETER.split(segment)
        if len(names_and_text) == 1:
            return self.literal.setdefault(segment, _Node())
        prefix, suffix = names_and_text[0], names_and_text[-1]
        if not prefix and not suffix and len(names_and_text) == 3:
            if self.any is None:
                self.any = _Node()
            return self.any
        self.shapes.add((len(prefix), len(suffix)))
        # The key has no parameter names: templates that differ only in these share a node.
        return self.partial.setdefault((prefix, suffix), {}).setdefault(
            DYNAMIC_PARAMETER.sub("{}", segment), _Node()
        )

    def following(self, segment: str) -> Iterator["_Node[Leaf]"]:
        literal = self.literal.get(segment)
        if literal is not None:
            yield literal
        if not segment:
            return
        if self.any is not None:
            yield self.any
        for head, tail in self.shapes:
            if len(segment) <= head + tail:
                continue
            ends = segment[:head], segment[len(segment) - tail :]
            for shape, node in self.partial.get(ends, {}).items():
                literals = shape.split("{}")
                if len(literals) == 2 or match_segment(literals, segment) is not None:
                    yield node


# Keys of a node of the index: for any other segment, and for the end of the path. No segment is
# None or a number.
_ANY = None
_LEAF = 0

# The value of a segment that matches more than one branch.
_AMBIGUOUS: dict[Any, Any] = {}


class SegmentTree(Generic[Leaf]):
    """Find the template that a path matches; of several, the one that was added first.

    Most segments match one branch only. These are looked up in an index of plain dicts, built from
    the tree on the first look-up after a change. For the others the tree is searched.
    """

    def __init__(self) -> None:
        self._root: _Node[Leaf] = _Node()
        self._count = 0
        self._index: dict[Any, Any] | None = None

    def add(self, template: str, leaf: Leaf) -> Leaf:
        """Add a path template; return its leaf: `leaf`, or that of an equal earlier template."""
        node = self._root
        for segment in template.split("/"):
            node = node.child(segment)
        if node.leaf is None:
            node.leaf = (self._count, leaf)
        self._count += 1
        self._index = None
        return node.leaf[1]

    def find(self, path: str) -> tuple[Leaf, list[str] | None] | None:
        """Return the leaf of the template that `path` matches, and the path values; else None.

        The trailing slash may be missing from the path. The values are None if the template has
        mixed segments: match its pattern for the values.
        """
        if "{" in path or "}" in path:
            return None  # neither literals nor values contain braces
        node = self._index
        if node is None:
            node = self._index = _index_of(self._root)
        values: list[str] = []
        for segment in path.split("/"):
            after = node.get(segment)
            if after is None:
                after = node.get(_ANY)
                if after is None or not segment:
                    return None
                values.append(segment)
            if after is _AMBIGUOUS:
                return self._find_among_many(path.split("/"))
            node = after
        leaf = node.get(_LEAF)
        return None if leaf is None else (leaf, values)

    def _find_among_many(self, segments: list[str]) -> tuple[Leaf, list[str] | None] | None:
        if segments[-1]:
            segments.append("")
        nodes = [self._root]
        for segment in segments:
            nodes = [after for node in nodes for after in node.following(segment)]
            if not nodes:
                return None
        leaves = [node.leaf for node in nodes if node.leaf is not None]
        return (min(leaves, key=lambda leaf: leaf[0])[1], None) if leaves else None


def _index_of(node: _Node[Any]) -> dict[Any, Any]:
    if node.shapes:
        index: dict[Any, Any] = dict.fromkeys(node.literal, _AMBIGUOUS)
        index[_ANY] = _AMBIGUOUS
    elif node.any is not None:
        index = dict.fromkeys(node.literal, _AMBIGUOUS)
        index[_ANY] = _index_of(node.any)
    else:
        index = {segment: _index_of(after) for segment, after in node.literal.items()}
    if node.leaf is not None:
        index[_LEAF] = node.leaf[1]
    last = node.literal.get("")
    if last is not None:
        index[""] = _index_of(last)  # a parameter does not match an empty segment
        if last.leaf is not None:
            index[_LEAF] = last.leaf[1]
    return index
