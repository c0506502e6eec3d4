"""However many schedulers run, and whatever happens to one of them: once; and a wrong clock opens nothing early."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

from control_harness import Gate
from redis.asyncio import Redis

from gateway.control.clocks import Clocks
from gateway.control.scheduler import Scheduler
from gateway.enforcement.store import Store

HOUR = timedelta(hours=1)


async def directive(gate: Gate, **window: datetime) -> None:
    times = {name.rstrip("_"): at.isoformat() for name, at in window.items()}
    body = {"models": ["claude-fable-5"], "who": {"everyone": True}, "state": "in_force", "window": times}
    made = await gate.put("/api/v1/directives/d-1", body, If_None_Match="*")
    assert made.status == 200, made.body


def scheduler(gate: Gate, ahead: timedelta = timedelta()) -> Scheduler:
    return Scheduler(gate.store, gate.receipts, lambda: datetime.now(UTC) + ahead)


async def actions(gate: Gate) -> list[str]:
    return [(await gate.store.entry(rev)).action for rev in range(1, await gate.revision() + 1)]


async def test_a_clock_that_is_ahead_opens_nothing(gate):
    await directive(gate, until=datetime.now(UTC) + HOUR)
    for _ in range(2):
        await scheduler(gate, 2 * HOUR).once()
    assert "window_ends" not in await actions(gate)


async def test_nor_where_redis_clock_is_wrong_too_and_one_other_is_right(gate):
    """As if Redis ran on the machine whose clock is ahead."""

    await directive(gate, until=datetime.now(UTC) + HOUR)
    right = Clocks(gate.store, lambda: datetime.now(UTC) - 2 * HOUR)
    await right.earliest()  # two hours behind Redis, that is
    await scheduler(gate, 2 * HOUR).look(datetime.now(UTC) + 2 * HOUR, await right.earliest())
    assert "window_ends" not in await actions(gate)


async def test_what_closes_does_not_wait_for_other_clocks(gate):
    await directive(gate, from_=datetime.now(UTC) + HOUR)
    await Clocks(gate.store, lambda: datetime.now(UTC) - 2 * HOUR).earliest()
    await scheduler(gate, 2 * HOUR).once()
    assert "window_begins" in await actions(gate)


async def test_a_clock_that_is_not_heard_of_any_more_counts_no_longer(gate):
    behind = Clocks(gate.store, lambda: datetime.now(UTC) - HOUR)
    assert (datetime.now(UTC) - await behind.earliest()) > HOUR / 2
    await gate.store.redis.hset(gate.store.keys.clocks, behind._name, b'{"offset": -3600, "seen": 1}')
    await gate.store.redis.hset(gate.store.keys.clocks, "nonsense", b"?")
    right = Clocks(gate.store, lambda: datetime.now(UTC))
    assert abs(datetime.now(UTC) - await right.earliest()) < HOUR / 2
    assert await gate.store.redis.hlen(gate.store.keys.clocks) == 1


async def test_what_is_late_says_how_late(gate):
    await directive(gate, from_=datetime.now(UTC) + timedelta(seconds=30))
    await scheduler(gate).look(datetime.now(UTC) + timedelta(seconds=90))
    sealed = await gate.store.redis.get(gate.store.keys.detail(await gate.revision()))
    assert b'"late_seconds":' in sealed


KILLED = """
    import asyncio, os, signal, sys
    from datetime import UTC, datetime, timedelta
    from pathlib import Path
    from redis.asyncio import Redis
    from gateway.control.scheduler import Scheduler
    from gateway.enforcement.keys import Keys
    from gateway.enforcement.signing import load_signer
    from gateway.enforcement.store import Store

    class Dying:
        def open(self, *_):
            os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        redis = Redis(unix_socket_path=sys.argv[1], protocol=2)
        store = Store(redis, Keys(sys.argv[2]), load_signer(Path(sys.argv[3])))
        await Scheduler(store, Dying()).look(datetime.now(UTC) + timedelta(hours=2))

    asyncio.run(main())
"""


async def test_one_is_killed_while_it_fires_and_it_happens_once(gate, redis_server, tmp_path):
    """It dies with the revision committed and no receipt begun; another one finds nothing left to do but the proof."""
    from cryptography.hazmat.primitives import serialization

    key = tmp_path / "signing.key"
    raw = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(gate.store.signer._private_key.private_bytes(*raw))
    await directive(gate, from_=datetime.now(UTC) + HOUR)
    prefix = gate.settings.redis.prefix
    program = [sys.executable, "-c", textwrap.dedent(KILLED), redis_server, prefix, str(key)]
    killed = await asyncio.to_thread(subprocess.run, program, check=False, cwd=Path.cwd())
    assert killed.returncode == -signal.SIGKILL
    later = datetime.now(UTC) + 2 * HOUR
    async with Redis(unix_socket_path=redis_server, protocol=2) as redis:
        other = Store(redis, gate.store.keys, gate.store.signer)
        await asyncio.gather(*(Scheduler(other, gate.receipts).look(later) for _ in range(3)))
    assert (await actions(gate)).count("window_begins") == 1
    assert gate.receipts._open == {}
    due = await gate.receipts._orphans.due(set())
    assert due == [], "whoever looks after orphans has seen it, and completes it when its patience ends"
    assert list(gate.receipts._orphans._seen) == [await gate.revision()]
