"""Holds of one machine: merged into the policy, kept on disk, let go of where a revision carries them."""

import pytest
from samples import document, hold, order

from gateway.enforcement.entry import Position
from gateway.enforcement.local import (
    FILE,
    LocalHold,
    UnreadableError,
    keep_holds,
    load_holds,
    merged,
    read_holds,
    write_holds,
)
from gateway.policy.snapshot import Snapshot

HERE = Position("e1", 7, "h7")


def local(hold_id: str = "h-local", *patterns: str, **fields) -> LocalHold:
    made = fields.pop("hold", None) or hold(*(patterns or ("gpt-5.4",)))
    return LocalHold(id=hold_id, hold=made, operation=f"op-{hold_id}", **fields)


def test_a_model_that_is_held_here_is_offline():
    snapshot = Snapshot(merged(document(), (local(),)), 3)
    assert set(snapshot.offline) == {"gpt-5.4"}
    assert snapshot.offline["gpt-5.4"].hold_id == "h-local"


def test_without_any_the_policy_is_the_same_object():
    policy = document()
    assert merged(policy, ()) is policy


def test_what_the_policy_has_by_the_same_id_stays_as_it_is():
    policy = document(holds={"h-local": hold("claude-fable-5")})
    assert merged(policy, (local(),)) is policy


def test_the_order_of_a_hold_comes_with_it_where_the_policy_lacks_it():
    under = local(hold=hold("gpt-5.4", order="o-1"), order=order(reference="new"))
    assert merged(document(), (under,)).orders["o-1"].reference == "new"
    known = document(orders={"o-1": order(reference="old")})
    assert merged(known, (under,)).orders["o-1"].reference == "old"


@pytest.mark.parametrize(
    ("carried", "position", "answer"),
    [
        (None, HERE, False),
        (HERE, None, False),
        (HERE, HERE, True),
        (HERE, Position("e1", 8, "h8"), True),
        (HERE, Position("e1", 6, "h6"), False),
        (HERE, Position("e2", 9, "h9"), False),
    ],
    ids=["by none", "who knows none", "itself", "a later one", "an earlier one", "one of another epoch"],
)
def test_a_hold_is_let_go_of_only_at_a_revision_that_has_it(carried, position, answer):
    assert local(carried=carried).carried_by(position) is answer


def test_they_go_over_the_channel_and_back():
    holds = (local(), local("h-2", "family:fable", carried=HERE, uncertain=True))
    assert read_holds(write_holds(holds)) == holds


def test_they_are_on_disk_for_their_owner_only(tmp_path):
    assert load_holds(tmp_path) == ()
    holds = (local(carried=HERE), local("h-2"))
    keep_holds(tmp_path, holds)
    assert load_holds(tmp_path) == holds
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    keep_holds(tmp_path, ())
    assert load_holds(tmp_path) == ()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("content", [b"", b"[{}]", b"\xff"])
def test_a_file_that_cannot_be_read_is_no_empty_one(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UnreadableError, match=r"local-holds\.json"):
        load_holds(tmp_path)
