"""The fast validator against Autobahn's own."""

import pytest
from autobahn.websocket.utf8validator import Utf8Validator
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorest_ws.connection.utf8 import FastUtf8Validator

pytestmark = pytest.mark.property

PIECES = st.one_of(
    st.binary(max_size=6),
    st.text(max_size=4).map(str.encode),
    st.sampled_from([b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x9f"]),
)


@st.composite
def texts(draw):
    """Several texts, each cut into pieces anywhere."""
    pieces = []
    for whole in draw(st.lists(st.lists(PIECES, max_size=8).map(b"".join), max_size=3)):
        cuts = sorted(draw(st.sets(st.integers(0, len(whole)), max_size=5)))
        pieces.append(
            [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)],
        )
    return pieces


@settings(max_examples=500, deadline=None)
@given(texts())
def test_pieces_are_judged_as_autobahn_judges_them(pieces):
    ours, theirs = FastUtf8Validator(), Utf8Validator()
    for text in pieces:
        ours.reset()
        theirs.reset()
        for piece in text:
            expected = theirs.validate(piece)
            assert ours.validate(piece) == expected
