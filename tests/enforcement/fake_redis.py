"""Redis in memory: the data types and scripts that the enforcement uses, and clients that reach it over bad lines.

``tests/enforcement/test_fake_redis.py`` compares it with a real server, script by script.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

import orjson
from redis.exceptions import TimeoutError as RedisTimeoutError
from virtual_loop import VirtualLoop

from gateway.enforcement import scripts

Id = tuple[int, int]


def as_bytes(value: Any) -> bytes:
    """As redis-py sends an argument."""
    return value if isinstance(value, bytes) else str(value).encode()


def read_id(text: Any) -> Id:
    """A stream's id."""
    first, _, second = as_bytes(text).decode().partition("-")
    return int(first), int(second or 0)


def write_id(entry_id: Id) -> bytes:
    """A stream's id, as Redis writes it."""
    return b"%d-%d" % entry_id


@dataclass
class State:
    """What is stored."""

    strings: dict[bytes, bytes] = field(default_factory=dict)
    hashes: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    lists: dict[bytes, list[bytes]] = field(default_factory=dict)
    streams: dict[bytes, list[tuple[Id, dict[bytes, bytes]]]] = field(default_factory=dict)

    def hash_at(self, key: bytes) -> dict[bytes, bytes]:
        return self.hashes.setdefault(key, {})

    def list_at(self, key: bytes) -> list[bytes]:
        return self.lists.setdefault(key, [])

    def stream_at(self, key: bytes) -> list[tuple[Id, dict[bytes, bytes]]]:
        return self.streams.setdefault(key, [])

    def copy(self) -> "State":
        """Independent of this one; values are never changed in place."""
        return State(
            dict(self.strings),
            {key: dict(value) for key, value in self.hashes.items()},
            {key: list(value) for key, value in self.lists.items()},
            {key: list(value) for key, value in self.streams.items()},
        )

    def keys(self) -> set[bytes]:
        return {key for kind in (self.strings, self.hashes, self.lists, self.streams) for key in kind if kind[key]}

    def xadd(self, key: bytes, entry_id: bytes, fields: dict[bytes, bytes]) -> bytes:
        stream = self.stream_at(key)
        last = stream[-1][0] if stream else (0, 0)
        if entry_id == b"*":
            new = (last[0], last[1] + 1)
        else:
            new = read_id(entry_id)
            if new <= last:
                raise ValueError("The ID specified in XADD is equal or smaller than the target stream top item")
        stream.append((new, fields))
        return write_id(new)


class FakeServer:
    """One primary. ``guards`` of its scripts can be removed one by one, to see what they are for."""

    guards: ClassVar[frozenset[str]] = frozenset({"hash", "tombstone"})

    def __init__(self) -> None:
        self.state = State()
        self.down = False
        self.on_script: Callable[[str, list[bytes], list[bytes], Any], None] = lambda *_: None
        self._scripts: dict[str, tuple[str, Callable[[list[bytes], list[bytes]], Any]]] = {
            scripts.COMMIT: ("commit", self._commit),
            scripts.INIT: ("init", self._init),
            scripts.RENEW: ("renew", self._renew),
            scripts.LEAVE: ("leave", self._leave),
            scripts.RECORD: ("record", self._record),
        }

    def save(self) -> State:
        """A copy of everything, as a replica or a backup has it."""
        return self.state.copy()

    def script(self, source: str, keys: list[Any], args: list[Any]) -> Any:
        """Run a script."""
        name, run = self._scripts[source]
        keys, args = [as_bytes(key) for key in keys], [as_bytes(arg) for arg in args]
        answer = run(keys, args)
        self.on_script(name, keys, args, answer)
        return answer

    def _commit(self, keys: list[bytes], args: list[bytes]) -> list[bytes]:
        state = self.state
        cur, log, docs, doc, ops, order, replicas, *records = keys
        epoch, expected, expected_hash, op_id, rev, hash_, entry, sha, sealed, *values = args
        known = state.hash_at(ops).get(op_id)
        if known is not None:
            return [b"KNOWN", known]
        here = state.hash_at(cur)
        if (here.get(b"epoch"), here.get(b"rev"), here.get(b"hash")) != (epoch, expected, expected_hash):
            return [b"CONFLICT", here.get(b"epoch", b""), here.get(b"rev", b"")]
        if sealed == b"" and doc not in state.strings:
            return [b"NODOC"]
        state.xadd(log, rev + b"-0", {b"entry": entry})
        if sealed != b"":
            state.strings[doc] = sealed
        kept = state.list_at(docs)
        kept.append(sha)
        if len(kept) > 100:
            old = kept.pop(0)
            if old not in kept:
                state.strings.pop(doc[: len(doc) - len(sha)] + old, None)
        for key, value in zip(records, values, strict=True):
            if value == b"":
                state.strings.pop(key, None)
            else:
                state.strings[key] = value
        members = [text.decode() for pair in state.hash_at(replicas).items() for text in pair]
        answer = orjson.dumps(
            {
                "rev": int(rev),
                "hash": hash_.decode(),
                "members": members or {},
                "epoch": epoch.decode(),
                "replid": "0" * 40,
            }
        )
        state.hash_at(ops)[op_id] = answer
        state.list_at(order).append(op_id)
        if len(state.list_at(order)) > 1000:
            state.hash_at(ops).pop(state.list_at(order).pop(0), None)
        here.update({b"epoch": epoch, b"rev": rev, b"hash": hash_, b"doc": sha})
        return [b"DONE", answer]

    def _init(self, keys: list[bytes], args: list[bytes]) -> list[bytes]:
        state = self.state
        cur, log, docs, doc, *records = keys
        epoch, rev, hash_, entry, sha, sealed, *values = args
        if state.hash_at(cur):
            return [b"EXISTS"]
        state.xadd(log, rev + b"-0", {b"entry": entry})
        state.strings[doc] = sealed
        state.list_at(docs).append(sha)
        state.strings.update(zip(records, values, strict=True))
        state.hash_at(cur).update({b"epoch": epoch, b"rev": rev, b"hash": hash_, b"doc": sha})
        return [b"DONE"]

    def _renew(self, keys: list[bytes], args: list[bytes]) -> list[bytes]:
        state = self.state
        cur, replicas, acks = keys
        member, epoch, rev, hash_, swept, cut, draining, nonce, host, version, *rest = args
        finishing, nack, mac = [*rest, b"", b"", b""][:3]
        here = state.hash_at(cur)
        now = here.get(b"rev", b"")
        was = state.hash_at(replicas).get(member)
        last: dict[str, Any] = orjson.loads(was) if was is not None else {"renew_seq": 0}
        if last.get("left") and "tombstone" in self.guards:
            return [b"GONE", nonce, now]
        if here.get(b"epoch") != epoch:
            return [b"FORK", nonce, now]
        if int(rev) < int(now):
            if was is not None and last.get("nack", "") != nack.decode():
                state.hash_at(replicas)[member] = orjson.dumps(_with(last, nack))
            return [b"STALE", nonce, now]
        if int(rev) > int(now) or (here[b"hash"] != hash_ and "hash" in self.guards):
            return [b"FORK", nonce, now]
        said = {
            "rev": int(rev), "hash": hash_.decode(), "swept": int(swept), "renew_seq": last.get("renew_seq", 0) + 1,
            "streams_cut": int(cut), "draining": int(draining), "host": host.decode(), "version": version.decode(),
            "finishing": finishing.decode(), "mac": mac.decode(),
        }  # fmt: skip
        state.hash_at(replicas)[member] = orjson.dumps(_with(said, nack))
        news = ("rev", "swept", "draining")
        told = all(last.get(name) == said[name] for name in news)
        if not told or last.get("finishing", "") != said["finishing"]:
            fields = {b"member": member, b"rev": rev, b"swept": swept, b"streams_cut": cut, b"draining": draining}
            state.xadd(acks, b"*", fields)
        return [b"OK", nonce, now]

    def _leave(self, keys: list[bytes], args: list[bytes]) -> int:
        state = self.state
        replicas, acks = keys
        member, seen, *rest = args
        mac = rest[0].decode() if rest else ""
        was = state.hash_at(replicas).get(member)
        if was is None:
            if seen == b"":
                state.hash_at(replicas)[member] = orjson.dumps({"left": True, "left_mac": mac})
            return 0
        if seen not in (b"", was):
            return 0
        last = orjson.loads(was)
        if last.get("left"):
            return 0
        state.hash_at(replicas)[member] = orjson.dumps(last | {"left": True, "left_mac": mac})
        state.xadd(acks, b"*", {b"member": member, b"left": b"1"})
        return 1

    def _record(self, keys: list[bytes], args: list[bytes]) -> int:
        receipts, evidence = keys
        rev, view, sealed = args
        was = self.state.hash_at(receipts).get(rev)
        if was is not None and orjson.loads(was).get("basis") != "lost":
            return 0
        self.state.hash_at(receipts)[rev] = view
        self.state.xadd(evidence, b"*", {b"kind": b"receipt", b"sealed": sealed})
        return 1


def _with(said: dict[str, Any], nack: bytes) -> dict[str, Any]:
    """What a member said, with what it does not understand, if anything."""
    others = {name: value for name, value in said.items() if name != "nack"}
    return {**others, "nack": nack.decode()} if nack else others


@dataclass(frozen=True)
class Weather:
    """How bad a line is: seconds one way, and what becomes of messages."""

    slowest: float = 0.002
    lost: float = 0.0
    answers_lost: float = 0.0
    doubled: float = 0.0
    crossed: bool = False
    cut: bool = False


WEATHERS = {
    "fair": Weather(),
    "slow": Weather(slowest=0.4),
    "crawling": Weather(slowest=1.5),
    "lossy": Weather(slowest=0.05, lost=0.3, answers_lost=0.3),
    "deaf": Weather(answers_lost=1.0),
    "doubling": Weather(slowest=0.8, doubled=0.7),
    "crossed": Weather(slowest=0.6, crossed=True),
    "late": Weather(slowest=8.0),
    "cut": Weather(cut=True),
}


class Lines:
    """All connections to the server; each machine has its own weather."""

    def __init__(self, loop: VirtualLoop, server: FakeServer, random: Random) -> None:
        self.loop = loop
        self.server = server
        self.weather: dict[str, Weather] = {}
        self._random = random
        self._waiting: list[tuple[bytes, Id, Callable[[Any], None]]] = []
        self._crossed: dict[str, list[Any]] = {}

    def break_all(self) -> None:
        """The server is another process now: whoever waited for news hears nothing any more."""
        self._waiting.clear()

    async def call(
        self, machine: str, execute: Callable[[State], Any], seconds: float, *, renewal: bool = False
    ) -> Any:
        """One command: there, executed, and back, or not."""
        loop, weather = self.loop, self.weather.get(machine, WEATHERS["fair"])
        answered = loop.create_future()
        renewal = renewal and weather.crossed
        if renewal and self._crossed.get(machine):
            late = self._crossed[machine].pop(0)
            loop.after(0.01, self._answer, answered, late)
        times = 2 if self._random.random() < weather.doubled else 1
        for _ in range(times):
            if not weather.cut and self._random.random() >= weather.lost:
                loop.after(self._delay(weather), self._arrive, machine, execute, answered, renewal)
        timeout = loop.call_later(seconds, self._fail, answered)
        try:
            return await answered
        finally:
            timeout.cancel()

    def watch(self, execute: Callable[[State], Any], key: bytes, last: Id, answer: Callable[[Any], None]) -> None:
        """A read that waits for news."""
        found = execute(self.server.state)
        if found:
            answer(found)
        else:
            self._waiting.append((key, last, answer))

    def forget(self, answer: Callable[[Any], None]) -> bool:
        """End a wait. Whether there was one."""
        before = len(self._waiting)
        self._waiting = [waiting for waiting in self._waiting if waiting[2] is not answer]
        return len(self._waiting) < before

    def _delay(self, weather: Weather) -> float:
        return 0.0001 + self._random.random() * weather.slowest

    def _arrive(self, machine: str, execute: Any, answered: Any, renewal: bool) -> None:
        if self.server.down:
            return
        found = execute(self.server.state)
        self.tell_news()
        self.back(machine, answered, found, renewal)

    def back(self, machine: str, answered: Any, found: Any, renewal: bool = False) -> None:
        """The way of an answer."""
        weather = self.weather.get(machine, WEATHERS["fair"])
        if weather.cut or self._random.random() < weather.answers_lost:
            return
        self.loop.after(self._delay(weather), self._deliver, machine, answered, found, renewal)

    def _deliver(self, machine: str, answered: Any, found: Any, renewal: bool) -> None:
        if answered.done() and renewal:  # it stays in the connection, for whoever reads next
            self._crossed.setdefault(machine, []).append(found)
        self._answer(answered, found)

    @staticmethod
    def _answer(answered: Any, found: Any) -> None:
        if answered.done():
            return
        if isinstance(found, Exception):
            answered.set_exception(found)
        else:
            answered.set_result(found)

    @staticmethod
    def _fail(answered: Any) -> None:
        if not answered.done():
            answered.set_exception(RedisTimeoutError("Timeout reading from socket"))

    def tell_news(self) -> None:
        """Answer the reads that wait for what is there now."""
        for key, last, answer in list(self._waiting):
            entries = _after(self.server.state, key, last)
            if entries:
                self._waiting.remove((key, last, answer))
                answer([[key, entries]])


def _after(state: State, key: bytes, last: Id) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return [(write_id(entry_id), dict(fields)) for entry_id, fields in state.streams.get(key, []) if entry_id > last]


class FakeClient:
    """What the enforcement uses of ``redis.asyncio.Redis``, over a machine's line."""

    def __init__(self, lines: Lines, machine: str, timeout: float = 2.0) -> None:
        self._lines = lines
        self._machine = machine
        self._timeout = timeout

    async def _call(self, execute: Callable[[State], Any], *, renewal: bool = False) -> Any:
        return await self._lines.call(self._machine, execute, self._timeout, renewal=renewal)

    def register_script(self, source: str) -> Callable[..., Awaitable[Any]]:
        async def run(*, keys: list[Any], args: list[Any]) -> Any:
            server = self._lines.server
            return await self._call(lambda _: server.script(source, keys, args), renewal=source == scripts.RENEW)

        return run

    async def get(self, key: str) -> bytes | None:
        return await self._call(lambda state: state.strings.get(as_bytes(key)))

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        return await self._call(lambda state: dict(state.hashes.get(as_bytes(key), {})))

    async def hget(self, key: str, name: str) -> bytes | None:
        return await self._call(lambda state: state.hashes.get(as_bytes(key), {}).get(as_bytes(name)))

    async def hexists(self, key: str, name: str) -> bool:
        return await self._call(lambda state: as_bytes(name) in state.hashes.get(as_bytes(key), {}))

    async def hmget(self, key: str, *names: Any) -> list[bytes | None]:
        flat = names[0] if names and isinstance(names[0], list) else names
        return await self._call(
            lambda state: [state.hashes.get(as_bytes(key), {}).get(as_bytes(name)) for name in flat]
        )

    async def hdel(self, key: str, name: str) -> int:
        return await self._call(
            lambda state: int(state.hashes.get(as_bytes(key), {}).pop(as_bytes(name), None) is not None)
        )

    async def xrange(self, key: str, min: str = "-", max: str = "+", count: int | None = None) -> list[Any]:  # noqa: A002
        low = (0, 0) if min == "-" else read_id(min)
        high = None if max == "+" else read_id(max)

        def find(state: State) -> list[Any]:
            stream = state.streams.get(as_bytes(key), [])
            found = [(write_id(i), dict(f)) for i, f in stream if i >= low and (high is None or i <= high)]
            return found[:count]

        return await self._call(find)

    async def xrevrange(self, key: str, max: str = "+", min: str = "-", count: int | None = None) -> list[Any]:  # noqa: A002
        def find(state: State) -> list[Any]:
            return [(write_id(i), dict(f)) for i, f in reversed(state.streams.get(as_bytes(key), []))][:count]

        return await self._call(find)

    async def xread(self, streams: dict[str, Any], count: int | None = None, block: int | None = None) -> Any:
        ((name, last),) = streams.items()
        key, after = as_bytes(name), read_id(last)
        lines, machine, loop = self._lines, self._machine, self._lines.loop
        answered = loop.create_future()

        def answer(found: Any) -> None:
            lines.back(machine, answered, found)

        def arrive() -> None:
            if not lines.server.down:
                lines.watch(lambda state: [[key, e]] if (e := _after(state, key, after)) else [], key, after, answer)
                loop.after((block or 0) / 1000, lambda: lines.forget(answer) and answer([]))

        weather = lines.weather.get(machine, WEATHERS["fair"])
        if not weather.cut:
            loop.after(lines._delay(weather), arrive)
        timeout = loop.call_later(self._timeout, lines._fail, answered)
        try:
            return await answered
        finally:
            timeout.cancel()
            lines.forget(answer)


def client_for(lines: Lines, machine: str, timeout: float = 2.0) -> FakeClient:
    """A client on a machine."""
    return FakeClient(lines, machine, timeout)
