"""The end of a binary message is known however the bytes come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.bedrock import frame
from gateway.proxy.frames import FrameEnds

MESSAGES = [frame({":event-type": "chunk"}, b"x" * size) for size in (0, 1, 300)]


@given(st.lists(st.sampled_from(MESSAGES), max_size=4), st.lists(st.integers(0, 700), max_size=6))
def test_between_messages_and_nowhere_else(messages, cuts):
    whole, ends = b"".join(messages), {0}
    for message in messages:
        ends.add(max(ends) + len(message))
    follower, last = FrameEnds(), 0
    for cut in sorted({min(cut, len(whole)) for cut in cuts} | {len(whole)}):
        follower.follow(whole[last:cut])
        last = cut
        assert follower.at_end == (cut in ends)


@pytest.mark.parametrize("length", [0, 4, 15])
def test_a_length_that_cannot_be_is_never_followed(length):
    follower = FrameEnds()
    follower.follow(length.to_bytes(4, "big") + MESSAGES[0])
    assert not follower.at_end
