"""Holds of one machine at the admin API: placed while Redis is away, proposed when it is back, dropped when applied."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from control_harness import APPROVER, FABLE, OPERATOR, OTHER, VIEWER, start_gate, stop_gate
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.control.app import build
from gateway.control.context import Context
from gateway.control.local_holds import LocalHolds
from gateway.control.remembered import FILE, Operators
from gateway.enforcement.local import load_holds, read_holds
from gateway.identity.keys import fingerprint
from gateway.policy.document import Hold


class Workers:
    """This machine's workers, as the control process hears them. ``applied``: the revision they stand at."""

    def __init__(self) -> None:
        self.holds: Any = ()
        self.position: Any = None
        self.silent = False

    async def spread(self, said: list[dict[str, Any]]) -> list[Any]:
        before = {local.id for local in self.holds}
        self.holds = read_holds(said)
        held = [local.id for local in self.holds if not local.carried_by(self.position)]
        cut = 3 if set(held) - before else 0
        return [{"held": held, "streams_cut": cut}, None if self.silent else {"held": held, "streams_cut": 0}]


class Line:
    """The way to Redis: while it is cut nothing gets through."""

    def __init__(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cut = False
        self.lose_answers = False
        real = client.execute_command

        async def execute(*args: Any, **kwargs: Any) -> Any:
            if self.cut:
                raise RedisConnectionError("gone")
            answer = await real(*args, **kwargs)
            if self.lose_answers and args[0] == "EVALSHA" and b"DONE" in answer:
                self.cut = True
                raise RedisTimeoutError("no answer")
            return answer

        monkeypatch.setattr(client, "execute_command", execute)


@pytest.fixture
async def gate(redis_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gate = await start_gate(redis_server, tmp_path)
    gate.workers = Workers()
    gate.local = LocalHolds(gate.store, gate.receipts, tmp_path, gate.workers.spread)
    gate.operators = Operators(gate.store, tmp_path)
    await gate.operators.look()
    await gate.client.close()
    from aiohttp.test_utils import TestClient, TestServer

    async def no_metrics() -> bytes:
        return b""

    context = Context(
        gate.settings, gate.store, gate.receipts, no_metrics, lambda: True, local=gate.local, operators=gate.operators
    )
    gate.client = TestClient(TestServer(build(context)))
    await gate.client.start_server()
    await gate.replica()
    gate.line = Line(gate.store.redis, monkeypatch)
    yield gate
    gate.line.cut = False
    await stop_gate(gate)


async def test_without_redis_a_model_goes_offline_on_this_machine(gate):
    gate.line.cut = True
    answer = await gate.post(f"{FABLE}/offline", {"note": "letter"})
    assert (answer.status, answer["scope"], answer["enforced"]) == (202, "this machine", False)
    assert (answer["workers"], answer["streams_cut"]) == ({"expected": 2, "holding": 2}, 3)
    assert answer["models"] == ["claude-fable-5"]
    assert [local.id for local in gate.workers.holds] == [answer["hold"]]
    (kept,) = load_holds(gate.settings.state_dir)
    assert (kept.id, kept.hold.by, kept.hold.note) == (answer["hold"], OPERATOR, "letter")
    assert gate.local.samples() == [("portcullis_local_holds", (), 1)]


async def test_a_worker_that_does_not_answer_is_said(gate):
    gate.line.cut = gate.workers.silent = True
    assert (await gate.post(f"{FABLE}/offline"))["workers"] == {"expected": 2, "holding": 1}


async def test_patterns_and_orders_too(gate):
    gate.line.cut = True
    order = {"authority": "BIS", "reference": "2026-1"}
    answer = await gate.post("/api/v1/offline", {"models": ["family:fable", "claude-opus-4-5"], "order": order})
    assert answer.status == 202
    assert "claude-opus-4-5" in answer["models"]
    again = await gate.post(f"{FABLE}/offline", {"order": order})
    assert again["order"] == answer["order"]
    (local, _) = gate.workers.holds
    assert local.order.authority == "BIS"
    gate.line.cut = False
    await gate.local.look()
    current = await gate.store.current()
    assert current.document.orders[answer["order"]].reference == "2026-1"
    assert {hold.order for hold in current.document.holds.values()} == {answer["order"]}


async def test_when_redis_is_back_it_is_a_hold_by_whom_and_when_it_was_placed(gate):
    gate.line.cut = True
    placed = await gate.post(f"{FABLE}/offline", {"note": "letter"})
    (local,) = gate.workers.holds
    gate.line.cut = False
    await gate.local.look()
    current = await gate.store.current()
    hold = current.document.holds[placed["hold"]]
    assert hold == local.hold
    entry = await gate.store.entry(current.rev)
    assert (entry.actor, entry.action, entry.subject) == (OPERATOR, "offline", f"holds/{placed['hold']}")
    await gate.settle()
    receipt = await gate.get(f"/api/v1/receipts/{current.rev}")
    assert (receipt["enforced"], receipt["models"], receipt["hold"]) == (True, ["claude-fable-5"], placed["hold"])


async def test_it_stays_on_this_machine_until_every_worker_applied_that_revision(gate):
    gate.line.cut = True
    placed = await gate.post(f"{FABLE}/offline")
    gate.line.cut = False
    await gate.local.look()
    position = (await gate.store.current()).position
    assert [(local.id, local.carried) for local in gate.workers.holds] == [(placed["hold"], position)]
    assert len(load_holds(gate.settings.state_dir)) == 1
    gate.workers.position = position
    gate.workers.silent = True
    await gate.local.look()
    assert len(load_holds(gate.settings.state_dir)) == 1, "nobody knows what a silent worker has"
    gate.workers.silent = False
    await gate.local.look()
    assert (gate.workers.holds, load_holds(gate.settings.state_dir)) == ((), ())
    assert (await gate.store.current()).position == position


async def test_a_commit_whose_answer_was_lost_is_not_made_twice(gate):
    gate.line.lose_answers = True
    placed = await gate.post(f"{FABLE}/offline", {"note": "letter"})
    assert placed["scope"] == "this machine"
    gate.line.cut = gate.line.lose_answers = False
    before = await gate.store.current()
    assert list(before.document.holds) == [placed["hold"]]
    await gate.local.look()
    assert (await gate.store.current()).rev == before.rev
    gate.workers.position = before.position
    await gate.local.look()
    assert gate.workers.holds == ()


async def test_one_that_was_committed_and_released_meanwhile_does_not_come_back(gate):
    gate.line.lose_answers = True
    placed = await gate.post(f"{FABLE}/offline")
    gate.line.cut = gate.line.lose_answers = False
    current = await gate.store.current()
    assert placed["hold"] in current.document.holds
    await gate.store.commit(current, current.document.edited(holds={}), actor="x", action="release", subject="y")
    await gate.local.look()
    assert not (await gate.store.current()).document.holds


async def test_a_redis_that_lost_the_revision_gets_it_again(gate):
    gate.line.cut = True
    placed = await gate.post(f"{FABLE}/offline")
    gate.line.cut = False
    first = await gate.store.current()
    await gate.local.look()
    assert gate.workers.holds[0].carried.epoch == first.position.epoch
    await gate.store.redis.delete(gate.store.keys.cur, gate.store.keys.log)
    await gate.store.init(first.document, _nothing(), actor="x", restored=first.position, action="restore")
    await gate.local.look()
    current = await gate.store.current()
    assert placed["hold"] in current.document.holds
    assert gate.workers.holds[0].carried == current.position


def _nothing():
    from gateway.enforcement.store import Edit

    return Edit()


async def test_the_same_call_again_is_the_same_hold(gate):
    gate.line.cut = True
    first = await gate.post(f"{FABLE}/offline", {}, Idempotency_Key="k")
    second = await gate.post(f"{FABLE}/offline", {}, Idempotency_Key="k")
    assert first["hold"] == second["hold"]
    assert len(gate.workers.holds) == 1
    gate.line.cut = False
    await gate.local.look()
    third = await gate.post(f"{FABLE}/offline", {}, Idempotency_Key="k")
    assert (third.status, len((await gate.store.current()).document.holds)) == (200, 1)


async def test_a_redis_that_lost_everything_is_as_good_as_away(gate):
    before = await gate.store.current()
    await gate.store.redis.delete(*await gate.store.redis.keys(f"{gate.settings.redis.prefix}:*".replace("{", "[{]")))
    assert (await gate.post(f"{FABLE}/offline", token="nobody")).status == 401
    placed = await gate.post(f"{FABLE}/offline")
    assert (placed.status, placed["scope"]) == (202, "this machine")
    await gate.local.look()
    assert gate.workers.holds[0].carried is None
    await gate.store.init(before.document, _nothing(), actor="x", restored=before.position, action="restore")
    await gate.local.look()
    assert placed["hold"] in (await gate.store.current()).document.holds


# ------------------------------------------------------------------------------------------------ who


@pytest.mark.parametrize(("token", "status"), [(VIEWER, 403), ("nobody", 401), (None, 401), (APPROVER, 202)])
async def test_roles_count_as_they_were_known(gate, token, status):
    gate.line.cut = True
    assert (await gate.post(f"{FABLE}/offline", token=token)).status == status


async def test_who_is_remembered_after_a_restart_is_who_verifies(gate, tmp_path):
    gate.line.cut = True
    again = Operators(gate.store, tmp_path)
    assert again.by_fingerprint(fingerprint(OPERATOR)).id == OPERATOR
    stored = (tmp_path / FILE).read_text()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / FILE).write_text(stored.replace(r"viewer", "approver"))
    forged = Operators(gate.store, tmp_path)
    assert forged.by_fingerprint(fingerprint(VIEWER)) is None
    assert forged.by_fingerprint(fingerprint(OPERATOR)) is not None
    for broken in ("", "[]", "{"):
        (tmp_path / FILE).write_text(broken)
        assert Operators(gate.store, tmp_path).by_fingerprint(fingerprint(OPERATOR)) is None


async def test_an_operator_who_was_removed_is_forgotten(gate):
    assert (await gate.delete(f"/api/v1/operators/{OTHER}", If_Match='"1"')).status == 200
    await gate.operators.look()
    gate.line.cut = True
    assert (await gate.post(f"{FABLE}/offline", token=OTHER)).status == 401


async def test_other_calls_are_refused_as_before(gate):
    gate.line.cut = True
    assert (await gate.get("/api/v1/models")).status == 503
    assert (await gate.put("/api/v1/terms/x", {"nationality": {"any_of": ["GB"]}}, If_None_Match="*")).status == 503


# ------------------------------------------------------------------------------------------------ back


async def test_nothing_is_opened_without_redis(gate):
    standing = await gate.post(f"{FABLE}/offline")
    gate.line.cut = True
    local = await gate.post("/api/v1/models/claude-opus-4-5/offline")
    for path in (
        f"{FABLE}/online",
        f"/api/v1/holds/{standing['hold']}/release",
        f"/api/v1/holds/{local['hold']}/release",
    ):
        refused = await gate.post(path)
        assert (refused.status, refused.problem) == (503, "unavailable")
        assert "nothing is opened without it" in refused["detail"]
    refused = await gate.post(f"/api/v1/holds/{standing['hold']}/undo")
    assert "no hold of this machine alone" in refused["detail"]
    assert [local.id for local in gate.workers.holds] == [local["hold"]]


async def test_ones_own_can_be_undone_for_a_while(gate, monkeypatch):
    gate.line.cut = True
    local = await gate.post(f"{FABLE}/offline")
    assert (await gate.post(f"/api/v1/holds/{local['hold']}/undo", token=OTHER)).status == 403
    undone = await gate.post(f"/api/v1/holds/{local['hold']}/undo")
    assert (undone.status, undone["released"], undone["may_come_back"]) == (200, [local["hold"]], False)
    assert (undone["models"], undone["still_held"]) == (["claude-fable-5"], [])
    assert (gate.workers.holds, load_holds(gate.settings.state_dir)) == ((), ())
    gate.line.cut = False
    await gate.local.look()
    assert not (await gate.store.current()).document.holds


async def test_an_old_one_cannot(gate, monkeypatch):
    gate.line.cut = True
    local = await gate.post(f"{FABLE}/offline")
    (there,) = gate.workers.holds
    old = Hold.model_validate({**dict(there.hold), "at": "2026-01-01T00:00:00Z"})
    gate.local._holds[there.id] = there.model_copy(update={"hold": old})
    refused = await gate.post(f"/api/v1/holds/{local['hold']}/undo")
    assert (refused.status, "older than 600 s" in refused["detail"]) == (409, True)


async def test_what_others_hold_here_still_holds(gate):
    gate.line.cut = True
    mine = await gate.post(f"{FABLE}/offline")
    other = await gate.post(f"{FABLE}/offline", token=OTHER)
    undone = await gate.post(f"/api/v1/holds/{mine['hold']}/undo")
    assert [hold["id"] for hold in undone["still_held"][0]["holds"]] == [other["hold"]]


async def test_with_redis_back_an_undo_is_a_revision(gate):
    gate.line.cut = True
    local = await gate.post(f"{FABLE}/offline")
    gate.line.cut = False
    undone = await gate.post(f"/api/v1/holds/{local['hold']}/undo")
    assert (undone.status, undone["enforced"]) == (200, True)
    current = await gate.store.current()
    assert not current.document.holds
    gate.workers.position = current.position
    await gate.local.look()
    assert gate.workers.holds == ()


async def test_with_redis_back_online_finds_what_was_held_here(gate):
    gate.line.cut = True
    local = await gate.post(f"{FABLE}/offline")
    gate.line.cut = False
    online = await gate.post(f"{FABLE}/online")
    assert (online.status, online["released"]) == (200, [local["hold"]])
    await gate.local.look()
    assert not (await gate.store.current()).document.holds


async def test_they_are_listed_as_what_they_are(gate):
    known = await gate.post("/api/v1/models/claude-opus-4-5/offline")
    gate.line.cut = True
    local = await gate.post(f"{FABLE}/offline", token=OTHER)
    listed = await gate.get("/api/v1/holds")
    assert (listed.status, listed["redis"]) == (200, "unreachable")
    assert [(hold["id"], hold.get("scope")) for hold in listed["holds"]] == [
        (local["hold"], "this machine"),
        (known["hold"], None),
    ]
    mine = await gate.get("/api/v1/holds?by=me", token=OTHER)
    assert [hold["id"] for hold in mine["holds"]] == [local["hold"]]


# ------------------------------------------------------------------------------------------------ restarts, disks


async def test_a_control_process_that_starts_goes_on_where_the_last_one_was(gate, tmp_path):
    gate.line.cut = True
    placed = await gate.post(f"{FABLE}/offline")
    again = LocalHolds(gate.store, gate.receipts, tmp_path, gate.workers.spread)
    assert [local.id for local in again.standing] == [placed["hold"]]
    gate.line.cut = False
    await again.look()
    assert placed["hold"] in (await gate.store.current()).document.holds


async def test_a_full_disk_stops_no_hold_and_is_said(gate, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.control.local_holds.keep_holds", full)
    gate.line.cut = True
    answer = await gate.post(f"{FABLE}/offline")
    assert (answer.status, answer["kept"], answer["workers"]["holding"]) == (202, False, 2)


async def test_a_machine_that_knows_no_policy_says_so(gate):
    gate.store._cached = None
    gate.line.cut = True
    refused = await gate.post(f"{FABLE}/offline")
    assert (refused.status, "knows no policy" in refused["detail"]) == (503, True)


async def test_away_for_a_while_is_logged_once(gate):
    from structlog.testing import capture_logs

    gate.line.cut = True
    await gate.post(f"{FABLE}/offline")
    with capture_logs() as lines:
        for _ in range(3):
            await gate.local.look()
    assert [line["event"] for line in lines if line["event"].startswith("local")] == ["local_holds_wait"]
    with contextlib.suppress(RedisConnectionError):
        await gate.local.proposed()
