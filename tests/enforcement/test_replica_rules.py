"""The rules of one replica's right to serve, without Redis and without time."""

import pytest

from gateway.enforcement.entry import Entry, Position
from gateway.enforcement.lease import serve_until
from gateway.enforcement.replica import Fenced, Gap, Gone, Replica, State, reads_as_finishing, write_finishing

D = 15.0


def position(rev: int, hash_: str = "", epoch: str = "e") -> Position:
    return Position(epoch, rev, hash_ or f"h{rev}")


def entry(rev: int, prev: str, epoch: str = "e") -> Entry:
    return Entry(epoch, rev, "now", "op", "offline", "m", None, "doc", (), prev)


def replica(rev: int | None = 5, remembered: Position | None = None) -> Replica:
    made = Replica("i" * 32, remembered)
    if rev is not None:
        made.applied(position(rev))
    return made


def serving(rev: int = 5, at: float = 100.0) -> Replica:
    made = replica(rev)
    made.answered(made.renew(at, "n"), "OK", "n")
    return made


# ---------------------------------------------------------------- the lease


def test_nothing_is_served_before_the_first_ok():
    fresh = replica(None)
    assert (fresh.state, fresh.may_serve(0, D), fresh.deadline(D)) == (State.BOOT, False, -float("inf"))
    fresh.applied(position(1))
    assert (fresh.state, fresh.may_serve(0, D)) == (State.SYNC, False)
    fresh.renew(0, "n")
    assert not fresh.may_serve(0, D)


def test_a_renewal_needs_something_to_renew():
    with pytest.raises(Gap):
        replica(None).renew(0, "n")


def test_an_ok_counts_from_before_it_was_asked_for():
    made = serving(at=100.0)
    assert made.state is State.SERVING
    assert made.deadline(D) == serve_until(100.0, D)
    assert made.may_serve(serve_until(100.0, D) - 0.001, D)
    assert not made.may_serve(serve_until(100.0, D), D), "the deadline itself is too late"


def test_each_model_has_its_own_deadline():
    made = serving(at=100.0)
    assert made.may_serve(106.0, 15.0)
    assert not made.may_serve(106.0, 5.0)


def test_a_later_answer_to_an_earlier_renewal_does_not_shorten_the_lease():
    made = replica()
    first, second = made.renew(100.0, "a"), made.renew(101.0, "b")
    made.answered(second, "OK", "b")
    made.answered(first, "OK", "a")
    assert made.deadline(D) == serve_until(101.0, D)


@pytest.mark.parametrize(("status", "nonce"), [("OK", "other"), ("STALE", "other"), ("FORK", "other"), ("GONE", "")])
def test_an_answer_with_another_nonce_is_nobodys(status, nonce):
    made = replica()
    made.answered(made.renew(100.0, "n"), status, nonce)
    assert (made.state, made.deadline(D)) == (State.SYNC, -float("inf"))


def test_an_answer_counts_once():
    made = serving(at=100.0)
    renewal = made.renew(200.0, "m")
    made.answered(renewal, "OK", "m")
    made.fence()
    made.answered(renewal, "OK", "m")
    assert not made.may_serve(200.0, D)


@pytest.mark.parametrize(
    ("status", "cause"), [("STALE", Gap), ("GONE", Gone), ("FORK", Fenced), ("", Fenced), ("anything", Fenced)]
)
def test_every_other_answer_leads_somewhere_and_extends_nothing(status, cause):
    made = serving(at=100.0)
    renewal = made.renew(110.0, "m")
    with pytest.raises(cause):
        made.answered(renewal, status, "m")
    assert made.deadline(D) == serve_until(100.0, D)


def test_renewals_that_were_never_answered_are_forgotten():
    made = replica()
    old = made.renew(0.0, "old")
    for second in range(1, 200):
        made.renew(float(second), f"n{second}")
    assert len(made._pending) <= 61
    made.answered(old, "OK", "old")
    assert not made.may_serve(1.0, D)


def test_overdue_is_a_state_of_its_own_until_the_next_ok():
    made = serving(at=100.0)
    made.overdue()
    assert made.state is State.STALE
    made.answered(made.renew(200.0, "m"), "OK", "m")
    assert made.state is State.SERVING
    for state in (State.BOOT, State.DRAINING, State.FENCED, State.SYNC):
        made.state = state
        made.overdue()
        assert made.state is state


# ---------------------------------------------------------------- what is acknowledged


def test_a_renewal_says_what_was_applied():
    made = serving(7)
    made.streams_cut = 3
    renewal = made.renew(0, "m")
    assert (renewal.position, renewal.swept, renewal.streams_cut, renewal.draining) == (position(7), 7, 3, 0)


def test_what_is_let_finish_keeps_the_sweep_open():
    made = serving(7)
    made.applied(position(8))
    made.draining, made.finishing = 2, (8,)
    renewal = made.renew(0, "m")
    assert (renewal.position.rev, renewal.swept, renewal.draining) == (8, 7, 2)
    made.applied(position(9))
    assert made.renew(0, "o").swept == 7
    assert made.renew(0, "r").finishing == (8,)
    made.draining, made.finishing = 0, ()
    assert made.renew(0, "p").swept == 9


# ---------------------------------------------------------------- the log


def test_the_next_entry_follows():
    replica(5).check_next(entry(6, "h5"))


@pytest.mark.parametrize("rev", [1, 4, 5, 7, 100])
def test_any_other_is_a_gap(rev):
    with pytest.raises(Gap):
        replica(5).check_next(entry(rev, "h5"))


def test_before_anything_was_applied_everything_is():
    with pytest.raises(Gap):
        replica(None).check_next(entry(1, ""))


@pytest.mark.parametrize(("prev", "epoch"), [("other", "e"), ("h5", "other")])
def test_the_next_one_of_another_history_fences(prev, epoch):
    with pytest.raises(Fenced):
        replica(5).check_next(entry(6, prev, epoch))


JUMPS = [
    # found                         allowed
    (position(5), True),  # where it stands
    (position(6), True),  # ahead
    (position(60, "x"), True),  # far ahead: what lies between is not known
    (position(6, epoch="new"), True),  # restored under a new epoch, above what is remembered
    (position(4), False),  # behind
    (position(1), False),
    (position(5, "other"), False),  # the same number, another story
    (position(5, epoch="new"), False),  # the same, under another epoch
    (position(4, epoch="new"), False),  # restored, but from too old a memory
    (position(0, epoch="new"), False),
]


@pytest.mark.parametrize(("found", "allowed"), JUMPS)
@pytest.mark.parametrize("known", ["applied", "remembered"])
def test_redis_is_never_behind_what_is_known(found, allowed, known):
    made = replica(5) if known == "applied" else replica(None, position(5))
    if allowed:
        made.check_jump(found)
    else:
        with pytest.raises(Fenced):
            made.check_jump(found)


def test_what_was_applied_counts_more_than_what_was_remembered():
    made = replica(None, position(3))
    made.applied(position(7))
    assert made.remembered == position(7)
    with pytest.raises(Fenced):
        made.check_jump(position(6))


def test_a_new_replica_takes_what_it_finds():
    replica(None).check_jump(position(1))


# ---------------------------------------------------------------- fenced, gone, leaving


def test_a_fence_takes_the_lease_at_once():
    made = serving(at=100.0)
    on_its_way = made.renew(100.5, "m")
    made.fence()
    assert (made.state, made.may_serve(100.6, D)) == (State.FENCED, False)
    made.answered(on_its_way, "OK", "m")
    assert not made.may_serve(100.6, D)
    assert made.state is State.FENCED


def test_it_ends_by_a_revision_and_a_new_lease():
    made = serving(5)
    made.fence()
    with pytest.raises(Fenced):
        made.check_jump(position(4))
    made.check_jump(position(6))
    made.applied(position(6))
    assert (made.state, made.may_serve(0, D)) == (State.SYNC, False)
    made.answered(made.renew(0.0, "m"), "OK", "m")
    assert made.may_serve(1.0, D)


def test_who_is_gone_comes_back_as_another_and_without_a_lease():
    made = serving(at=100.0)
    on_its_way = made.renew(100.5, "m")
    made.reborn("j" * 32)
    assert (made.incarnation, made.state, made.may_serve(100.6, D)) == ("j" * 32, State.SYNC, False)
    assert made.position == position(5)
    made.answered(on_its_way, "OK", "m")
    assert not made.may_serve(100.6, D)
    made.answered(made.renew(101.0, "o"), "OK", "o")
    assert (made.state, made.may_serve(101.5, D)) == (State.SERVING, True)


def test_who_leaves_keeps_the_lease_while_streams_end():
    made = serving(at=100.0)
    made.drain()
    made.answered(made.renew(101.0, "m"), "OK", "m")
    assert (made.state, made.may_serve(102.0, D)) == (State.DRAINING, True)
    made.applied(position(6))
    assert made.state is State.DRAINING


@pytest.mark.parametrize(
    ("revisions", "said"),
    [((), ""), ((2,), "2"), ((2, 3), "2-3"), ((2, 4), "2,4"), ((2, 3, 4, 9, 12, 13), "2-4,9,12-13")],
)
def test_revisions_that_wait_for_what_may_finish_are_said_in_runs(revisions, said):
    assert write_finishing(revisions) == said
    assert [rev for rev in range(20) if reads_as_finishing(said, rev)] == list(revisions)
