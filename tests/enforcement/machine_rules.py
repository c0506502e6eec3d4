"""What may happen to a gateway, as rules; Hypothesis chooses the order. The claim is checked at every byte."""

from collections import Counter
from typing import ClassVar

from fake_redis import WEATHERS
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from machine_world import CALLERS, MODELS, World

machines = st.sampled_from(("r0", "r1", "r2"))
sites = st.sampled_from(("r0", "r1", "r2", "r0", "r1", "r2", "c0", "c1"))
models = st.sampled_from(MODELS)
callers = st.sampled_from(CALLERS)


def family(name: str):
    """A rule that a schedule family may leave out."""
    return precondition(lambda self: name in self.mix)


MIXES = (
    frozenset({"policy", "weather"}),
    frozenset({"policy", "pauses", "weather"}),
    frozenset({"policy", "max_stale", "weather", "pauses"}),
    frozenset({"policy", "crashes", "pauses", "weather"}),
    frozenset({"policy", "callers", "weather"}),
    frozenset({"policy", "callers", "control", "weather"}),
    frozenset({"policy", "redis", "control", "crashes"}),
    frozenset({"policy", "callers", "lineages"}),
    frozenset({"policy", "callers", "lineages", "weather", "crashes", "redis"}),
    frozenset({"policy", "callers", "max_stale", "weather", "pauses", "crashes", "control", "redis", "lineages"}),
)
"""Which families take part in an example: where everything happens at once, little gets far."""


class Gateway(RuleBasedStateMachine):
    """Everything that may happen. ``families``: of which mixes of events an example may be."""

    families: ClassVar[tuple[frozenset[str], ...]] = MIXES
    totals: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None
        self.mix: frozenset[str] = frozenset()

    @initialize(seed=st.integers(0, 2**16), data=st.data())
    def begin(self, seed: int, data: st.DataObject) -> None:
        self.mix = data.draw(st.sampled_from(self.families))
        self.world = World(seed)
        self.totals["examples"] += 1

    def teardown(self) -> None:
        if self.world is not None:
            self.totals["steps"] += self.world.steps
            self.totals["writes judged"] += self.world.judge.writes
            self.totals["revisions"] += len(self.world.judge.nodes)
            for basis, count in self.world.judge.bases.items():
                self.totals[f"receipts {basis}"] += count
            self.world.finish()

    def _step(self) -> World:
        self.totals["rules"] += 1
        assert self.world is not None
        return self.world

    # ---------------------------------------------------------------- time and traffic

    @rule(seconds=st.sampled_from((0.01, 0.1, 0.4, 1.0)))
    def moments_pass(self, seconds: float) -> None:
        self._step().advance(seconds)

    @rule(seconds=st.sampled_from((1.0, 2.5, 5.0)))
    def seconds_pass(self, seconds: float) -> None:
        self._step().advance(seconds)

    @rule(machine=machines, caller=callers, model=models, thinks=st.booleans(), stalled=st.booleans())
    def somebody_asks(self, machine: str, caller: str, model: str, thinks: bool, stalled: bool) -> None:
        self._step().request(machine, caller, model, thinks=thinks, stalled=stalled)

    @rule(caller=callers, model=models)
    def somebody_asks_everywhere(self, caller: str, model: str) -> None:
        world = self._step()
        for machine in world.replicas:
            world.request(machine, caller, model)

    @rule()
    def models_answer(self) -> None:
        world = self._step()
        for replica in world.all_replicas():
            for provider in replica.providers:
                provider.thinks = False
        world.speak()
        world.run(0.0)

    @rule(machine=machines)
    def answers_end(self, machine: str) -> None:
        world = self._step()
        for provider in world.replicas[machine].providers:
            provider.finish()
        world.run(0.0)

    @rule(machine=machines)
    def clients_take(self, machine: str) -> None:
        world = self._step()
        replica = world.replicas[machine]
        if replica.runs:
            for client in replica.clients:
                client.take()
        world.run(0.0)

    # ---------------------------------------------------------------- policy

    @family("policy")
    @rule(model=models, grace=st.sampled_from((0.0, 0.0, 3.0)))
    def offline(self, model: str, grace: float) -> None:
        self._step().offline(model, grace)

    @family("policy")
    @rule(model=models)
    def offline_while_it_is_asked_for(self, model: str) -> None:
        world = self._step()
        for machine in world.replicas:
            world.request(machine, "alice", model)
        world.advance(0.1)
        world.offline(model)
        world.advance(0.4)

    @family("policy")
    @rule(model=models)
    def online(self, model: str) -> None:
        self._step().online(model)

    @family("callers")
    @rule(name=callers, nationality=st.sampled_from(("US", "CN", None)))
    def a_caller_changes(self, name: str, nationality: str | None) -> None:
        self._step().caller(name, nationality)

    @family("max_stale")
    @rule(seconds=st.sampled_from((1.0, 4.0, 9.0)))
    def leases_change(self, seconds: float) -> None:
        self._step().max_stale(seconds)

    # ---------------------------------------------------------------- lines

    @family("weather")
    @rule(site=sites, kind=st.sampled_from(sorted(WEATHERS)))
    def weather(self, site: str, kind: str) -> None:
        self._step().weather(site, kind)

    @rule()
    def all_is_well_again(self) -> None:
        world = self._step()
        world.lines.weather.clear()
        world.server.down = False
        world.go_on()
        for machine in world.replicas:
            if world.replicas[machine].proc.dead:
                world.restart(machine)
        world.advance(2.0)

    @precondition(lambda self: self.mix & {"weather", "pauses"} and self.mix & {"policy", "callers"})
    @rule(
        machine=machines, model=models, before=st.sampled_from(sorted(WEATHERS)), after=st.sampled_from(sorted(WEATHERS)),
        still=st.sampled_from((None, False, True)), seconds=st.sampled_from((0.3, 2.5, 6.0)), lead=st.sampled_from((0.0, 1.2)),
    )  # fmt: skip
    def a_kill_while_a_worker_is_in_trouble(
        self, machine: str, model: str, before: str, after: str, still: bool | None, seconds: float, lead: float
    ) -> None:
        world = self._step()
        if "weather" in self.mix:
            world.weather(machine, before)
        for one in world.replicas:
            world.request(one, "alice", model)
        world.advance(0.5 + lead)
        if still is not None and "pauses" in self.mix:
            world.pause(machine, suspend=still)
        if "policy" in self.mix:
            world.offline(model)
        else:
            world.caller("alice", None)
        world.advance(seconds)
        if "weather" in self.mix:
            world.weather(machine, after)
        world.go_on()
        for _ in range(3):
            world.request(machine, "alice", model)
            world.advance(0.4)
        if "policy" in self.mix:
            world.online(model)
        else:
            world.caller("alice", "US")

    @precondition(lambda self: {"weather", "policy"} <= self.mix)
    @rule(machine=machines, model=models, on_its_way=st.booleans())
    def a_kill_right_after_a_renewal(self, machine: str, model: str, on_its_way: bool) -> None:
        """The worker hears nothing of it. The commit may have been on its way for a while."""
        world = self._step()
        world.online(model)
        world.advance(0.5)
        for one in world.replicas:
            world.request(one, "bob", model)
        world.advance(0.2)
        known = len(world.judge.nodes)
        if on_its_way:
            world.offline(model)
            world.run(0.0022)  # it has read what it edits
            world.weather(world.control().proc.name, "crawling")
        world.until_renewed(machine)
        world.weather(machine, "cut")
        if not on_its_way:
            world.offline(model)
        world.until_committed(known)
        world.weather(world.control().proc.name, "fair")
        for _ in range(3):
            world.advance(2.0)
        world.lines.weather.clear()

    @precondition(lambda self: {"weather", "pauses", "policy"} <= self.mix)
    @rule(machine=machines, model=models, seconds=st.sampled_from((0.3, 2.0, 3.5)))
    def a_kill_while_the_answer_to_a_renewal_waits(self, machine: str, model: str, seconds: float) -> None:
        """The worker stands still between sending a renewal and reading its answer, and hears nothing more then."""
        world = self._step()
        world.online(model)
        world.advance(0.5)
        for one in world.replicas:
            world.request(one, "bob", model)
        world.advance(0.2)
        known = len(world.judge.nodes)
        world.until_asked(machine)
        world.pause(machine, suspend=False)
        world.run(0.1)
        world.weather(machine, "cut")
        world.offline(model)
        world.until_committed(known)
        world.advance(seconds)
        world.go_on()
        for _ in range(4):
            world.advance(1.0)
            world.request(machine, "bob", model)
        world.lines.weather.clear()

    @precondition(lambda self: {"weather", "policy", "max_stale"} <= self.mix)
    @rule(machine=machines, model=models, seconds=st.sampled_from((0.3, 2.0, 5.0)))
    def leases_get_shorter_while_a_worker_is_cut_off(self, machine: str, model: str, seconds: float) -> None:
        world = self._step()
        world.online(model)
        world.advance(0.3)
        world.max_stale(9.0)
        world.advance(1.5)
        for one in world.replicas:
            world.request(one, "bob", model)
        world.advance(0.2)
        world.weather(machine, "cut")
        world.max_stale(1.0)
        world.advance(seconds)
        world.offline(model)
        world.advance(2.0)

    @family("policy")
    @rule(machine=machines, model=models, thinks=st.booleans(), grace=st.sampled_from((0.0, 3.0)), gap=st.booleans())
    def a_kill_while_somebody_is_slow(self, machine: str, model: str, thinks: bool, grace: float, gap: bool) -> None:
        """The model, or the client."""
        world = self._step()
        world.online(model)
        world.advance(0.2)
        world.request(machine, "bob", model, thinks=thinks, stalled=not thinks)
        world.advance(0.2)
        if not thinks:
            self.answers_end(machine)
        if gap and "weather" in self.mix:
            world.weather(machine, "cut")
        world.offline(model, grace)
        if gap:  # both may come at once
            world.offline(model, grace)
            world.advance(0.3)
            world.lines.weather.clear()
            world.advance(0.9)
        world.advance(0.4)
        self.models_answer()
        self.clients_take(machine)
        self.answers_end(machine)

    @family("callers")
    @rule(machine=machines, model=models, kind=st.sampled_from(("fair", "slow")), gap=st.sampled_from((0.0, 0.05, 0.3)))
    def a_caller_is_cut_off_while_it_is_looked_up(self, machine: str, model: str, kind: str, gap: float) -> None:
        world = self._step()
        world.caller("alice", "US")
        world.advance(0.6)
        if "weather" in self.mix:
            world.weather(machine, kind)
        world.request(machine, "alice", model)
        world.run(gap)
        world.caller("alice", None)
        world.advance(1.0)
        world.request(machine, "alice", model)
        world.advance(0.6)

    # ---------------------------------------------------------------- processes

    @family("pauses")
    @rule(machine=machines, suspend=st.booleans())
    def a_worker_stands_still(self, machine: str, suspend: bool) -> None:
        self._step().pause(machine, suspend=suspend)

    @rule()
    def all_go_on(self) -> None:
        self._step().go_on()

    @family("crashes")
    @rule(machine=machines, buried=st.booleans())
    def a_worker_dies(self, machine: str, buried: bool) -> None:
        self._step().crash(machine, buried=buried)

    @family("crashes")
    @rule(machine=machines)
    def a_worker_starts_again(self, machine: str) -> None:
        self._step().restart(machine)

    @family("crashes")
    @rule(machine=machines)
    def a_worker_leaves(self, machine: str) -> None:
        self._step().leave(machine)

    @precondition(lambda self: {"crashes", "pauses", "policy"} <= self.mix)
    @rule(machine=machines, model=models)
    def a_worker_starts_again_while_the_former_sleeps(self, machine: str, model: str) -> None:
        world = self._step()
        world.online(model)
        world.advance(1.2)
        world.request(machine, "bob", model)
        world.advance(0.1)
        world.pause(machine)
        world.restart(machine)
        world.advance(0.6)
        world.offline(model)
        world.advance(0.5)
        world.go_on()
        world.advance(0.2)

    @precondition(lambda self: {"crashes", "lineages", "policy"} <= self.mix)
    @rule(machine=machines, model=models, buried=st.booleans())
    def a_worker_starts_again_on_a_redis_that_fell_back(self, machine: str, model: str, buried: bool) -> None:
        world = self._step()
        world.online(model)
        world.advance(0.6)
        world.save()
        world.offline(model)
        world.advance(0.6)
        world.fall_back(world.saved[-1])
        world.crash(machine, buried=buried)
        world.restart(machine)
        world.advance(1.2)
        world.request(machine, "bob", model)
        world.advance(0.4)

    @family("control")
    @rule()
    def the_control_process_dies(self) -> None:
        self._step().crash_control()

    @family("control")
    @rule()
    def another_control_process_is_asked(self) -> None:
        self._step().controls.reverse()

    # ---------------------------------------------------------------- Redis

    @family("redis")
    @rule(down=st.booleans())
    def redis_is_away(self, down: bool) -> None:
        world = self._step()
        world.server.down = down
        world.restart_redis()

    @family("redis")
    @rule()
    def redis_restarts(self) -> None:
        self._step().restart_redis()

    @family("lineages")
    @rule()
    def a_copy_is_made(self) -> None:
        self._step().save()

    @family("lineages")
    @rule(back=st.integers(0, 2))
    def redis_falls_back(self, back: int) -> None:
        world = self._step()
        if world.saved:
            world.fall_back(world.saved[min(back, len(world.saved) - 1)])

    @precondition(lambda self: {"lineages", "policy"} <= self.mix)
    @rule(model=models, name=callers, lead=st.sampled_from((0.0, 0.3, 1.5)), again=st.booleans())
    def redis_falls_back_and_goes_another_way(self, model: str, name: str, lead: float, again: bool) -> None:
        world = self._step()
        world.online(model)
        for machine in world.replicas:
            world.request(machine, name, model)
        world.advance(1.3)
        world.save()
        world.online(model)
        world.advance(lead)
        world.fall_back(world.saved[-1])
        if "callers" in self.mix:
            world.caller(name, None)
            world.advance(0.02)
        if again or "callers" not in self.mix:
            world.offline(model)
        else:
            world.online(model)
        world.advance(1.5)
        world.request("r0", name, model)
        world.advance(0.4)
        world.caller(name, "US")

    @family("lineages")
    @rule(restored=st.booleans())
    def redis_forgets_everything(self, restored: bool) -> None:
        world = self._step()
        world.fall_back(None)
        if restored:
            world.restore()

    @family("lineages")
    @rule()
    def somebody_restores(self) -> None:
        self._step().restore()
