"""Bodies while they wait: in memory or on disk, and counted, for whom."""

import tracemalloc
from pathlib import Path

import pytest

from gateway.proxy.body import Body, BodyTooLargeError, Buffered, NoRoomError
from gateway.settings import Limits


@pytest.fixture
def buffered(tmp_path):
    limits = Limits(body_bytes=100, spool_above=10, buffered_bytes_per_caller=150, buffered_bytes=200)
    yield Buffered(limits, tmp_path)
    while MADE:
        MADE.pop().close()


MADE: list[Body] = []


def filled(buffered, size: int, owner: str = "alice") -> Body:
    body = Body(buffered, owner)
    MADE.append(body)
    body.add(b"x" * size)
    return body


@pytest.mark.parametrize(("pieces", "spooled"), [((b"0123456789",), False), ((b"01234", b"567890"), True), ((), False)])
def test_a_body_goes_to_disk_when_it_outgrows_the_memory_it_may_have(buffered, pieces, spooled):
    body = Body(buffered)
    for piece in pieces:
        body.add(piece)
    assert body.spooled is spooled
    assert bytes(body.content()) == b"".join(pieces)
    body.close()


def test_a_file_of_a_body_has_no_name(buffered, tmp_path):
    body = filled(buffered, 50)
    assert body.spooled
    assert list(tmp_path.iterdir()) == []
    body.close()


def test_what_was_read_of_a_file_stays_when_the_body_is_closed(buffered):
    body = filled(buffered, 50)
    view = body.content()
    body.close()
    assert bytes(view) == b"x" * 50


@pytest.mark.parametrize(("size", "kept"), [(100, True), (101, False)])
def test_a_body_has_its_limit(buffered, size, kept):
    if kept:
        filled(buffered, size).close()
        return
    with pytest.raises(BodyTooLargeError):
        filled(buffered, size)
    assert buffered.total == 0


@pytest.mark.parametrize(("more", "kept"), [(50, True), (51, False)])
def test_a_caller_has_its_share(buffered, more, kept):
    filled(buffered, 100)
    assert buffered.has_room("alice", more) is kept
    assert buffered.has_room("bob", more)


@pytest.mark.parametrize(("more", "kept"), [(50, True), (51, False)])
def test_a_worker_has_its_limit(buffered, more, kept):
    filled(buffered, 100)
    filled(buffered, 50, "bob")
    assert buffered.has_room("carol", more) is kept


def test_what_is_not_kept_is_not_counted(buffered):
    body = filled(buffered, 100)
    with pytest.raises(NoRoomError):
        filled(buffered, 51)
    assert buffered.total == 100
    body.close()
    body.close()
    assert (buffered.total, dict(buffered._of)) == (0, {})


def test_a_body_is_counted_for_its_caller_once_that_is_known(buffered):
    body = filled(buffered, 60, owner="a credential")
    body.belongs_to("alice")
    assert dict(buffered._of) == {"alice": 60}
    filled(buffered, 90)
    late = filled(buffered, 40, owner="another credential")
    with pytest.raises(NoRoomError):
        late.belongs_to("alice")
    assert dict(buffered._of) == {"alice": 150, "another credential": 40}
    late.close()
    assert dict(buffered._of) == {"alice": 150}


def test_owners_of_nothing_are_not_remembered(buffered):
    """Somebody without a key can be a new owner with each request."""
    for number in range(100):
        body = Body(buffered)
        body.belongs_to(f"credential {number}")
        body.close()
    assert (buffered.total, dict(buffered._of)) == (0, {})


def test_callers_that_take_all_they_can_leave_room_for_one_that_comes_later(tmp_path):
    """With the defaults four callers could fill a worker; they, and a fifth, leave ten megabytes."""
    limits = Limits()
    buffered = Buffered(limits, tmp_path)
    step = 64 * 1024
    for number in range(5):
        while buffered.has_room(f"greedy {number}", step):
            buffered.take(f"greedy {number}", step)
    assert buffered._of["greedy 0"] == limits.buffered_bytes_per_caller
    assert buffered.has_room("late", 10 * 1024 * 1024)


def test_a_caller_that_is_alone_may_have_everything(tmp_path):
    buffered = Buffered(Limits(body_bytes=1000, buffered_bytes_per_caller=1000, buffered_bytes=1000), tmp_path)
    for _ in range(10):
        buffered.take("alone", 100)
    assert not buffered.has_room("alone", 1)


def test_a_body_in_tiny_pieces_takes_no_more_memory_than_in_one(tmp_path):
    limits = Limits()
    tracemalloc.start()
    body = Body(Buffered(limits, tmp_path))
    for _ in range(50_000):
        body.add(b"xy")
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bytes(body.content()) == b"xy" * 50_000
    body.close()
    assert taken < 3 * 100_000


def test_a_disk_that_takes_nothing_is_no_room(buffered, tmp_path):
    tmp_path.rmdir()
    body = Body(buffered)
    with pytest.raises(NoRoomError):
        body.add(b"x" * 50)
    body.close()
    assert buffered.total == 0


def test_a_file_is_closed_with_its_body(buffered):
    before = len(list(Path("/proc/self/fd").iterdir()))
    body = filled(buffered, 50)
    assert buffered.spooled == 1
    body.close()
    assert (buffered.spooled, len(list(Path("/proc/self/fd").iterdir()))) == (0, before)


def test_a_body_that_finds_no_room_with_its_caller_stays_counted_however_full_the_worker_is(buffered):
    """What is given back might not be taken again: others may have come meanwhile."""
    bodies = [filled(buffered, 50, owner="a credential") for _ in range(2)]
    filled(buffered, 100)
    assert not buffered.has_room("a credential", 1)
    late = bodies[0]
    with pytest.raises(NoRoomError):
        filled_up(buffered, late)
    assert (buffered.total, dict(buffered._of)) == (200, {"a credential": 100, "alice": 100})
    for body in bodies:
        body.close()
    assert dict(buffered._of) == {"alice": 100}


def filled_up(buffered, body: Body) -> None:
    """A caller of whom so much is kept that another 50 are too many."""
    buffered.limits = buffered.limits.model_copy(update={"buffered_bytes_per_caller": 149})
    body.belongs_to("alice")


def test_a_body_moves_to_its_caller_though_the_worker_is_full(buffered):
    body = filled(buffered, 100, owner="a credential")
    filled(buffered, 100)
    body.belongs_to("bob")
    assert (buffered.total, dict(buffered._of)) == (200, {"bob": 100, "alice": 100})
