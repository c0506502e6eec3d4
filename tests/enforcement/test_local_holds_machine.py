"""The state machine, with holds of one machine among what may happen: no receipt lies, and no held model is written."""

from typing import Any

import pytest
from hypothesis.stateful import rule, run_state_machine_as_test
from machine_rules import Gateway, family, machines, models
from machine_world import MODELS, Violation
from samples import hold
from test_enforcement_machine import machine_settings

from gateway.enforcement.agent import Agent
from gateway.enforcement.local import LocalHold

EXAMPLES = 20


def local(model: str) -> LocalHold:
    return LocalHold(id=f"h-local-{model}", hold=hold(model), operation=model)


class WithLocalHolds(Gateway):
    """Any machine may hold any model by itself, and let go of it."""

    families = (
        frozenset({"policy", "local"}),
        frozenset({"policy", "callers", "local", "weather"}),
        frozenset({"policy", "callers", "local", "weather", "pauses", "crashes", "lineages", "redis"}),
    )

    def _step(self) -> Any:
        world = super()._step()
        if not hasattr(world.judge, "plain_look"):
            world.judge.plain_look = world.judge.look
            world.judge.look = lambda *args: self._look(world, *args)
        return world

    @staticmethod
    def _look(world: Any, data: bytes, requests: Any, direction: str) -> None:
        from machine_world import MARK

        world.judge.plain_look(data, requests, direction)
        for mark in MARK.findall(data):
            request = requests[int(mark)]
            if request.model in getattr(request.replica, "held_here", ()):
                raise Violation(f"{request.model} is held on {request.replica.machine}: a byte {direction}")

    def _hold(self, machine: str, held: frozenset[str]) -> None:
        world = self._step()
        replica = world.replicas[machine]
        if not replica.runs:
            return

        async def tell() -> None:
            replica.held_here = getattr(replica, "held_here", frozenset()) & held
            await replica.agent.hold_locally(tuple(local(model) for model in sorted(held)))
            replica.held_here = held

        world.loop.create_task(tell(), context=replica.proc.context.copy())
        world.run(0.0)

    @family("local")
    @rule(machine=machines, model=models)
    def somebody_holds_here(self, machine: str, model: str) -> None:
        world = self._step()
        self._hold(machine, getattr(world.replicas[machine], "held_here", frozenset()) | {model})

    @family("local")
    @rule(machine=machines)
    def somebody_holds_everything_here_while_it_is_asked_for(self, machine: str) -> None:
        world = self._step()
        for model in MODELS:
            world.request(machine, "alice", model)
        world.advance(0.1)
        self._hold(machine, frozenset(MODELS))
        world.offline("m-default")
        world.advance(0.4)

    @family("local")
    @rule(machine=machines)
    def somebody_lets_go(self, machine: str) -> None:
        self._hold(machine, frozenset())


def test_no_receipt_lies_and_what_is_held_here_is_not_written():
    WithLocalHolds.totals.clear()
    run_state_machine_as_test(WithLocalHolds, settings=machine_settings(EXAMPLES, derandomize=True))
    print("\n" + ", ".join(f"{name}: {count}" for name, count in WithLocalHolds.totals.items()) + ", violations: 0")


def test_a_revision_that_forgets_what_is_held_is_found(monkeypatch):
    """The judge sees it: without this guard a revision that comes takes a hold of the machine away."""
    real = Agent._adopt

    async def forgetful(self: Agent, *args: Any) -> None:
        kept, self._local = self._local, ()
        await real(self, *args)
        self._local = kept

    monkeypatch.setattr(Agent, "_adopt", forgetful)
    with pytest.raises(BaseException) as raised:
        run_state_machine_as_test(WithLocalHolds, settings=machine_settings(100, derandomize=True, shrink=False))
    assert "is held on" in repr(raised.value) or "is held on" in str(raised.getrepr())
