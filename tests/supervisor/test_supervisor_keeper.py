"""Which child fills which slot, and who accepts what waits where, with children that are real processes."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.settings import Settings
from gateway.supervisor import Accepted, RestartError, Supervisor, keeper
from gateway.supervisor.child import State

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
REQUESTS = ("portcullis_requests_total", ("p", "m", "permit", ""))
PATIENCE = 20.0


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


class House:
    """A supervisor of fake workers, what was logged, and who was buried."""

    def __init__(self, directory: Path) -> None:
        self.moods = directory / "moods.json"
        self.buried: list[str] = []
        self.log: list[Any] = []
        self.feel()

    def feel(self, **moods: str) -> None:
        self.moods.write_text(json.dumps({slot.removeprefix("s"): mood for slot, mood in moods.items()}))

    async def open(self, workers: int = 2, **timeouts: float) -> Supervisor:
        settings = Settings(proxy={"listen": "127.0.0.1:0", "workers": workers, "timeouts": timeouts})
        self.supervisor = Supervisor(Accepted(settings, b"old"), self.buried.append, FAKE)
        self.supervisor.start()
        return self.supervisor

    def child(self, slot: int) -> Any:
        return self.supervisor._slots[slot].child

    def strike(self, slot: int, number: int = signal.SIGKILL) -> None:
        os.kill(self.child(slot).process.pid, number)

    def events(self, name: str) -> list[Any]:
        return [line for line in self.log if line["event"] == name]

    async def greeted(self) -> str:
        """What a client hears; nothing where it is turned away."""
        host, _, port = self.supervisor.listen.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(PATIENCE):
            said = (await reader.read()).decode()
        writer.close()
        return said


@pytest.fixture
async def house(tmp_path, monkeypatch) -> AsyncIterator[House]:
    monkeypatch.setattr(keeper, "TICK_SECONDS", 0.1)
    monkeypatch.setattr(keeper, "STARTING_SECONDS", 5.0)
    monkeypatch.delenv("PORTCULLIS_CONFIG", raising=False)
    monkeypatch.setenv("MOODS", str(tmp_path / "moods.json"))
    with capture_logs() as log:
        house = House(tmp_path)
        house.log = log
        yield house
        house.supervisor.kill()
        await house.supervisor.stop()


async def test_all_slots_are_served(house):
    supervisor = await house.open()
    await supervisor.wait_ready()
    heard = {(await house.greeted()).split()[0] for _ in range(50)}
    assert heard == {"0", "1"}
    assert supervisor.ready
    assert len(supervisor.workers) == 2


async def test_a_hot_restart_loses_no_connection_and_keeps_what_was_counted(house):
    supervisor = await house.open()
    await supervisor.wait_ready()
    before = set(supervisor.workers)
    heard: list[str] = []
    done = asyncio.Event()

    async def clients() -> None:
        while not done.is_set():
            heard.extend(await asyncio.gather(*(house.greeted() for _ in range(10))))

    knocking = asyncio.create_task(clients())
    assert await supervisor.restart(Accepted(supervisor._settings, b"new")) == 2
    await until(lambda: len(supervisor.workers) == 2)
    heard.clear()
    await until(lambda: len(heard) > 50)
    done.set()
    await knocking
    assert {said.split()[0] for said in heard} == {"0b", "1b"}, "names of their own, while the old ones leave"
    assert {said.split()[2] for said in heard} == {"new"}
    assert not before & set(supervisor.workers)
    await supervisor.count()
    assert (
        [row for source in supervisor.samples() for row in source if row[0] == REQUESTS[0]]
        == [
            (*REQUESTS, 10),  # of the two that left
            (*REQUESTS[:1], list(REQUESTS[1]), 3),
            (*REQUESTS[:1], list(REQUESTS[1]), 3),
        ]
    )
    assert house.buried == []
    assert supervisor.restarts == 0


async def test_a_new_worker_that_does_not_come_up_leaves_the_old_ones_in_place(house, monkeypatch):
    supervisor = await house.open()
    await supervisor.wait_ready()
    before = set(supervisor.workers)
    house.feel(s1="die")
    with pytest.raises(RestartError, match=r"worker 1 ended with code 7.*Workers 1 to 1 serve on as they were; 0 to 0"):
        await supervisor.restart(Accepted(supervisor._settings, b"new"))
    assert house.child(1).process.pid in before
    assert house.child(0).process.pid not in before
    monkeypatch.setattr(keeper, "REPLACED_SECONDS", 0.3)
    house.feel(s0="deaf")
    with pytest.raises(RestartError, match="worker 0 got no lease in time"):
        await supervisor.restart(Accepted(supervisor._settings, b"new"))
    assert house.child(0).state is State.SERVING
    await until(lambda: len(supervisor.workers) == 2)


async def test_one_restart_at_a_time(house):
    supervisor = await house.open(1)
    await supervisor.wait_ready()
    first = asyncio.create_task(supervisor.restart(supervisor._accepted))
    await asyncio.sleep(0)
    with pytest.raises(RestartError, match="under way"):
        await supervisor.restart(supervisor._accepted)
    assert await first == 1


async def test_what_waits_for_a_killed_worker_is_taken_up_by_its_sibling(house):
    supervisor = await house.open()
    await supervisor.wait_ready()
    member = house.child(0).member
    house.strike(0, signal.SIGSTOP)
    waiting = [asyncio.create_task(house.greeted()) for _ in range(20)]
    house.feel(s0="deaf")
    house.strike(0)
    heard = await asyncio.gather(*waiting)
    assert {said.split()[0] for said in heard} == {"1"}
    await until(lambda: house.events("worker_died"))
    assert house.events("worker_died")[0]["returncode"] == -signal.SIGKILL
    assert house.buried == [member]
    assert supervisor.ready, "a sibling stands in"
    assert supervisor.states["serving"] == 1


async def test_a_silent_worker_is_stood_in_for_and_then_ended(house):
    supervisor = await house.open(hung=1)
    await supervisor.wait_ready()
    house.strike(0, signal.SIGSTOP)
    heard = await asyncio.gather(*(house.greeted() for _ in range(20)))
    assert {said.split()[0] for said in heard} == {"1"}
    await until(lambda: house.events("worker_back"))
    assert [len(house.events(name)) for name in ("worker_silent", "worker_hung", "worker_died")] == [1, 1, 1]
    await until(lambda: supervisor.states["serving"] == 2)


async def test_a_silent_worker_that_wakes_takes_its_slot_back(house):
    supervisor = await house.open(hung=1000)
    await supervisor.wait_ready()
    victim = house.child(0)
    house.strike(0, signal.SIGSTOP)
    await until(lambda: supervisor._slots[0].cover is not None)
    house.strike(0, signal.SIGCONT)
    await until(lambda: supervisor._slots[0].cover is None)
    assert house.child(0) is victim
    assert [len(house.events(name)) for name in ("worker_silent", "worker_back")] == [1, 1]


async def test_a_crash_loop_is_told_once_and_turns_clients_away(house, monkeypatch):
    monkeypatch.setattr(keeper, "BACK_OFF", (0.01, 0.02, 0.05))
    supervisor = await house.open(1)
    await supervisor.wait_ready()
    house.feel(s0="die")
    house.strike(0)
    await until(lambda: supervisor.restarts >= 5)
    assert [line["restart_in"] for line in house.events("worker_died")] == [0.01, 0.02]
    assert [line["deaths"] for line in house.events("worker_crash_loop")] == [3]
    with pytest.raises(ConnectionRefusedError):
        await house.greeted()
    assert not supervisor.ready
    assert supervisor.states["serving"] == 0
    house.feel()
    await until(lambda: supervisor.states["serving"] == 1)
    assert supervisor.ready
    assert (await house.greeted()).startswith("0 ")
    assert house.events("worker_back") == [], "not before it has lasted"
    monkeypatch.setattr(keeper, "SETTLED_SECONDS", 0.0)
    await until(lambda: house.events("worker_back"))


async def test_a_slot_in_a_crash_loop_is_served_by_its_sibling(house, monkeypatch):
    monkeypatch.setattr(keeper, "BACK_OFF", (0.01, 0.02, 0.05))
    supervisor = await house.open()
    await supervisor.wait_ready()
    house.feel(s0="die")
    house.strike(0)
    await until(lambda: house.events("worker_crash_loop"))
    heard = await asyncio.gather(*(house.greeted() for _ in range(20)))
    assert {said.split()[0] for said in heard} == {"1"}
    assert supervisor.ready


async def test_a_worker_that_cannot_be_started_is_tried_again(house, monkeypatch):
    monkeypatch.setattr(keeper, "BACK_OFF", (0.01,))
    settings = Settings(proxy={"listen": "127.0.0.1:0", "workers": 1})
    house.supervisor = Supervisor(Accepted(settings, b""), house.buried.append, ("/nowhere/to/be/found",))
    house.supervisor.start()
    await until(lambda: house.supervisor.restarts > 4)
    assert len(house.events("worker_not_started")) == 3
    assert house.supervisor.workers == []


async def test_refusals_are_sought_at_every_worker(house):
    supervisor = await house.open()
    await supervisor.wait_ready()
    assert await supervisor.refusal("1") == {"by": "1"}
    assert await supervisor.refusal("elsewhere") is None


async def test_states_are_a_metric(house):
    supervisor = await house.open()
    await supervisor.wait_ready()
    found = {labels: value for name, labels, value in supervisor.samples()[0] if name == "portcullis_workers"}
    assert found == {(state,): 2 if state == "serving" else 0 for state in State}


async def test_after_the_end_nobody_is_left_and_nobody_listens(house):
    supervisor = await house.open()
    await supervisor.wait_ready()
    await supervisor.stop()
    assert supervisor.workers == []
    with pytest.raises(OSError, match="Connect"):
        await house.greeted()
    with pytest.raises(RestartError, match="leaving"):
        await supervisor.restart(supervisor._accepted)
    assert house.events("worker_died") == []


async def test_it_is_not_ready_before_a_worker_serves(house):
    supervisor = await house.open()
    assert not supervisor.ready
    await supervisor.wait_ready()
    assert supervisor.ready


async def test_a_worker_that_is_silent_delays_no_answer_but_keeps_its_counts(house, monkeypatch):
    supervisor = await house.open()
    await supervisor.wait_ready()
    await supervisor.count()
    before = house.child(0).samples
    assert before
    house.strike(0, signal.SIGSTOP)
    await until(lambda: house.child(0).silent)
    monkeypatch.setattr(keeper, "ANSWER_SECONDS", 10 * PATIENCE)
    async with asyncio.timeout(PATIENCE):
        await supervisor.count()
    assert house.child(0).samples == before
    house.strike(0, signal.SIGCONT)
