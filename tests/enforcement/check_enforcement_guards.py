"""What each guard of the protocol is for: without it the machine finds a receipt that lies.

Each line removes one guard and names the mixes of events in which that shows; the rules are the same as in
``test_enforcement_machine``, and so is the judge.
"""

import asyncio
import dataclasses
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest
from fake_redis import FakeServer
from hypothesis.stateful import run_state_machine_as_test
from machine_rules import Gateway
from machine_world import Violation
from test_enforcement_machine import machine_settings

from gateway.enforcement import agent, lease, receipts, replica
from gateway.enforcement.agent import Agent
from gateway.enforcement.receipts import Basis, Receipt, Receipts
from gateway.enforcement.replica import Replica
from gateway.enforcement.roll import Roll
from gateway.enforcement.store import Store
from gateway.identity.directory import Directory
from gateway.proxy.exchange import Exchange
from gateway.proxy.gate import Gate

EXAMPLES = 400
Patch = AbstractContextManager[Any]


def replaced(target: Any, name: str, make: Any) -> Patch:
    """A function in place of another one, which it gets as its first argument."""
    original = getattr(target, name)

    def instead(*args: Any, **kwargs: Any) -> Any:
        return make(original, *args, **kwargs)

    return mock.patch.object(target, name, instead)


@contextmanager
def both(*patches: Patch) -> Iterator[None]:
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


# ------------------------------------------------------------------------------------------------ without a guard


def any_nonce() -> Patch:
    return replaced(
        Replica, "answered", lambda real, self, renewal, status, _: real(self, renewal, status, renewal.nonce)
    )


def a_lease_from_when_the_answer_came() -> Patch:
    def answered(real: Any, self: Replica, renewal: Any, status: str, nonce: str) -> None:
        if renewal.nonce in self._pending:
            self._pending[renewal.nonce] = lease.now()
        real(self, renewal, status, nonce)

    return replaced(Replica, "answered", answered)


def no_hash_in_renew() -> Patch:
    return mock.patch.object(FakeServer, "guards", FakeServer.guards - {"hash"})


def no_tombstones() -> Patch:
    return mock.patch.object(FakeServer, "guards", FakeServer.guards - {"tombstone"})


def one_incarnation_for_ever() -> Patch:
    return mock.patch.object(Agent, "member", property(lambda self: f"{self.name}:same"))


def no_contiguity() -> Patch:
    return replaced(agent, "_contiguous", lambda _, *__: None)


async def _unasked(_: Agent, __: Any) -> None:
    """Nothing is looked up."""


def no_fence() -> Patch:
    """Neither by what is remembered nor by what the log says of it: where one of the two looks, the other need not.

    What the log's part is for alone, a promoted server that lacks a revision and has counted on, is in ``test_agent`` and
    in ``tests/scenarios/sentinels.py``.
    """
    return both(
        replaced(Replica, "check_jump", lambda _, *__: None),
        mock.patch.object(Agent, "_check_lineage", _unasked),
    )


def no_memory() -> Patch:
    return replaced(Agent, "__init__", _forgetful)


def _forgetful(real: Any, self: Agent, *args: Any) -> None:
    real(self, *args)
    self.replica.remembered = None


def no_deadline_before_a_write() -> Patch:
    return replaced(Exchange, "may_write", lambda _, *__: True)


def registered_when_the_answer_begins() -> Patch:
    def response_head(real: Any, self: Exchange, *args: Any) -> None:
        self.gate.in_flight.add(self)
        real(self, *args)

    return both(
        replaced(Exchange, "_register", lambda _, *__: None),
        replaced(Exchange, "response_head", response_head),
    )


def no_sweep() -> Patch:
    return replaced(Gate, "_judge", lambda _, *__: None)


def no_look_at_what_waits_for_slow_clients() -> Patch:
    return mock.patch.object(Gate, "_relayed", staticmethod(lambda _: []))


def applied_after_it_was_acknowledged() -> Patch:
    return replaced(Gate, "apply", lambda real, *args: asyncio.get_running_loop().call_later(0.5, real, *args))


def evicted_after_it_was_acknowledged() -> Patch:
    return replaced(Directory, "evict", lambda real, *args: asyncio.get_running_loop().call_later(1.0, real, *args))


def loads_that_raced_an_eviction_are_kept() -> Patch:
    async def look_up(self: Directory, key: str) -> Any:
        return self._remember(key, await self._load(key))

    return mock.patch.object(Directory, "_look_up", look_up)


def the_wait_begins_before_the_commit() -> Patch:
    async def commit(real: Any, self: Store, *args: Any, **kwargs: Any) -> Any:
        before = lease.now()
        return dataclasses.replace(await real(self, *args, **kwargs), at=before)

    return replaced(Store, "commit", commit)


def nobody_listed_is_all_acked() -> Patch:
    def close(real: Any, self: Receipt, basis: Basis, now: float) -> None:
        real(self, Basis.ALL_ACKED if basis is Basis.NO_REPLICAS else basis, now)

    return replaced(Receipt, "close", close)


def history_is_not_looked_at() -> Patch:
    async def stands(*_: Any) -> bool:
        return True

    return mock.patch.object(Receipts, "_history_stands", stands)


def what_may_finish_is_not_waited_for() -> Patch:
    return replaced(receipts, "reads_as_finishing", lambda _, *__: False)


def only_the_newest_revision_waits_for_what_may_finish() -> Patch:
    def finish_by(real: Any, self: Gate, *args: Any) -> None:
        self._newest = (self.revision, self.revision)
        real(self, *args)

    return replaced(Gate, "_finish_by", finish_by)


def leases_are_as_long_as_the_last_two_revisions_say() -> Patch:
    return replaced(receipts, "_oldest", lambda _, committed: committed.entry.rev)


def ghosts_are_as_old_as_the_last_revision_says() -> Patch:
    async def longest(_: Roll, __: int, current: Any) -> float:
        return current.snapshot.longest_stale

    return mock.patch.object(Roll, "_longest_since", longest)


def no_margin_for_clocks() -> Patch:
    return both(
        mock.patch.multiple(lease, EPSILON=0.0, SLOWEST=1.0, GUARD=0.0),
        mock.patch.multiple(replica, SLOWEST=1.0, GUARD=0.0),
    )


def mix(*families: str) -> frozenset[str]:
    return frozenset(families)


GUARDS = [
    # removed                                                  where it shows
    (any_nonce, mix("policy", "weather")),
    (a_lease_from_when_the_answer_came, mix("policy", "pauses", "weather")),
    (no_hash_in_renew, mix("policy", "lineages")),
    (no_tombstones, mix("policy", "weather", "crashes")),
    (one_incarnation_for_ever, mix("policy", "pauses", "crashes")),
    (no_contiguity, mix("policy", "callers", "lineages")),
    (no_fence, mix("policy", "lineages")),
    (no_memory, mix("policy", "lineages", "crashes")),
    (no_deadline_before_a_write, mix("policy", "pauses")),
    (registered_when_the_answer_begins, mix("policy")),
    (no_sweep, mix("policy")),
    (no_look_at_what_waits_for_slow_clients, mix("policy")),
    (applied_after_it_was_acknowledged, mix("policy")),
    (evicted_after_it_was_acknowledged, mix("callers")),
    (loads_that_raced_an_eviction_are_kept, mix("callers", "weather")),
    (the_wait_begins_before_the_commit, mix("policy", "weather")),
    (nobody_listed_is_all_acked, mix("policy", "crashes")),
    (history_is_not_looked_at, mix("policy", "lineages", "weather")),
    (what_may_finish_is_not_waited_for, mix("policy")),
    (only_the_newest_revision_waits_for_what_may_finish, mix("policy", "weather")),
    (leases_are_as_long_as_the_last_two_revisions_say, mix("policy", "max_stale", "weather")),
    (ghosts_are_as_old_as_the_last_revision_says, mix("policy", "max_stale", "weather")),
    (no_margin_for_clocks, mix("policy", "weather")),
]


@pytest.mark.parametrize(("without", "events"), GUARDS, ids=[without.__name__ for without, _ in GUARDS])
def test_without_it_a_receipt_lies(without, events, capsys):
    class Weakened(Gateway):
        families = (events,)

    Gateway.totals.clear()
    with without(), pytest.raises(Violation) as found:
        run_state_machine_as_test(Weakened, settings=machine_settings(EXAMPLES, derandomize=True, shrink=False))
    capsys.readouterr()
    sys.stderr.write(f"{without.__name__}: after {Gateway.totals['steps']} steps: {str(found.value)[:200]}\n")
