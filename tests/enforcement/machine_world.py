"""Several machines with real replicas, real data planes and real control processes; all around them is made up.

Real: ``Agent``, ``Replica``, ``Directory``, ``Gate``, client and upstream connections, ``Store``, ``Receipts``. Made
up: time, clocks, the network, Redis (``fake_redis``), disks, clients, providers. The judge sees bytes alone: each
request and each piece of an answer carries a mark, and a mark that passes a replica's ``write()`` against a receipt
is a violation.
"""

import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, cast
from unittest import mock

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fake_redis import WEATHERS, FakeServer, Lines, State, client_for
from redis.exceptions import RedisError
from virtual_loop import PROC, Proc, VirtualLoop

from gateway import tasks
from gateway.enforcement import agent as agent_module
from gateway.enforcement import lease
from gateway.enforcement import records as records_module
from gateway.enforcement.agent import Agent
from gateway.enforcement.entry import Position, read_entry
from gateway.enforcement.keys import Keys
from gateway.enforcement.memory import Remembered
from gateway.enforcement.receipts import Basis, Receipt, Receipts
from gateway.enforcement.records import open_document
from gateway.enforcement.scripts import LEAVE
from gateway.enforcement.signing import ForgedError, Signer
from gateway.enforcement.store import (
    AlreadyInitialisedError,
    Committed,
    ConflictError,
    Edit,
    NotInitialisedError,
    Store,
)
from gateway.identity.directory import Directory
from gateway.identity.keys import fingerprint
from gateway.identity.records import Attributes, CallerRecord, Key
from gateway.policy.caller import Caller, Kind
from gateway.policy.decision import Deny, Permit
from gateway.policy.document import Document
from gateway.policy.snapshot import Asked, Snapshot
from gateway.proxy.connection import ClientConnection
from gateway.proxy.gate import Gate
from gateway.settings import Settings

MODELS = ("m-default", "m-controlled", "m-own")
CALLERS = ("alice", "bob")
AT = "2026-06-12T21:21:00Z"
KEYS = Keys("{pc}")


class QuickSigner(Signer):
    """Checks each signature once: the protocol is judged here, not the arithmetic."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        super().__init__(private_key)
        self.verify = lru_cache(maxsize=4096)(self.verify)  # type: ignore[method-assign]


SILENT, _SILENT_END = socket.socketpair()
SIGNER = QuickSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
PROVIDER = {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-provider"}
SETTINGS = Settings(state_dir=Path("/nowhere"), providers={"openai": PROVIDER})
LOAD = lru_cache(maxsize=256)(records_module.load)
MARK = re.compile(rb"~(\d+)~")
TRIES = 8
LONGEST_CALL = 3.0


def first_document() -> Document:
    """Three models with leases of their own, and a directive on one of them."""
    route = {"provider": "openai"}
    models = {name: {"routes": [{**route, "names": [name]}]} for name in MODELS}
    models["m-controlled"]["tags"] = ["controlled"]  # type: ignore[assignment]
    models["m-own"]["max_stale"] = 1.5  # type: ignore[assignment]
    directive = {
        "models": ["m-default"], "who": {"nationality": {"any_of": ["CN"]}}, "state": "in_force", "by": "op", "at": AT,
    }  # fmt: skip
    return Document.model_validate(
        {
            "gateway": "test",
            "models": models,
            "max_stale": {"default": 4, "controlled": 2},
            "directives": {"d": directive},
        }
    )


def caller_record(name: str, nationality: str | None) -> CallerRecord:
    """A caller; without a nationality its key is revoked."""
    keys = {} if nationality is None else {"k": Key(sha256=fingerprint(f"pc-{name}"), created=AT)}
    known = Attributes(nationality=frozenset({nationality or "US"}))
    return CallerRecord(id=name, kind=Kind.PERSON, keys=keys, attributes=known, pseudonym=name)


class Violation(AssertionError):  # noqa: N818 - what the machine looks for
    """A byte went where a receipt said that none would go."""


# ------------------------------------------------------------------------------------------------ the judge


@dataclass(eq=False)
class Node:
    """A revision that some Redis executed, and what was known then. ``lost``: some Redis forgot it later."""

    position: Position
    parent: "Node | None"
    order: int
    snapshot: Snapshot
    callers: dict[str, Caller | None]
    lost: bool = False
    absent_since: float | None = None

    def denial(self, caller: str, model: str) -> Deny | None:
        """Why this revision denies it, if it does."""
        known = self.callers[caller]
        if known is None:
            return Deny("revoked", self.position.rev)  # type: ignore[arg-type]
        decision = self.snapshot.decide(known, Asked("openai", (model,)))
        return None if isinstance(decision, Permit) else decision

    def chain(self) -> Iterator["Node"]:
        """This one and all before it."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


@dataclass(eq=False)
class Request:
    """What a client asked for, and where the replica stood when it passed the request on."""

    mark: int
    caller: str
    model: str
    replica: "ReplicaProc"
    sent_under: Node | None = None


class Judge:
    """Knows every revision and every receipt, and looks at every byte."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.nodes: list[Node] = []
        self.by_hash: dict[str, Node] = {}
        self.enforced: list[tuple[Node, Receipt]] = []
        self.lost_renewals: set[str] = set()
        self.renewals: list[str] = []
        self.left: set[str] = set()
        self.writes = 0
        self.bases: dict[str, int] = {}
        self._snapshots: dict[bytes, Document] = {}

    # ---------------------------------------------------------------- what Redis did

    def executed(self, name: str, keys: list[bytes], args: list[bytes], answer: Any) -> None:
        if name == "commit" and answer[0] == b"DONE":
            self._check_tombstones(json.loads(answer[1])["members"])
            self._add(args[6], args[7])
        elif name == "init" and answer[0] == b"DONE":
            self._add(args[3], args[4])
        elif name == "renew" and answer[0] == b"OK":
            self.renewals.append(args[7].decode())
        elif name == "leave" and answer == 1:
            self.left.add(args[0].decode())

    def _check_tombstones(self, members: Any) -> None:
        listed = dict(zip(members[::2], members[1::2], strict=True)) if members else {}
        back = {member for member, said in listed.items() if not json.loads(said).get("left")} & self.left
        if back:
            raise Violation(f"{back} left, and is listed again")

    def _add(self, sealed: bytes, sha: bytes) -> None:
        entry = read_entry(sealed, SIGNER)
        state = self.server.state
        document = self._snapshots.get(sha)
        if document is None:
            document, _ = self._open(sha, state)
            self._snapshots[sha] = document
        callers = {name: self._caller(name, state) for name in CALLERS}
        snapshot = Snapshot(document, entry.rev)
        node = Node(entry.position, self.by_hash.get(entry.prev), len(self.nodes), snapshot, callers)
        self.nodes.append(node)
        self.by_hash[entry.hash] = node

    @staticmethod
    def _open(sha: bytes, state: State) -> tuple[Document, bytes]:
        sealed = state.strings[KEYS.doc(sha.decode()).encode()]
        return open_document(sha.decode(), sealed, SIGNER), sealed

    @staticmethod
    def _caller(name: str, state: State) -> Caller | None:
        sealed = state.strings.get(KEYS.record("caller", name).encode())
        if sealed is None:
            return None
        record = CallerRecord.model_validate_json(SIGNER.unseal("caller", name, sealed))
        return record.caller() if record.holds(fingerprint(f"pc-{name}")) else None

    def lose(self, state: State, renewals: int, now: float) -> None:
        """Redis stands somewhere else now: at ``state``, when so many renewals had been executed."""
        current = state.hashes.get(KEYS.cur.encode(), {}).get(b"hash", b"").decode()
        kept = set(self.by_hash[current].chain()) if current in self.by_hash else set()
        for node in self.nodes:
            node.lost = node.lost or node not in kept
            node.absent_since = None if node in kept else node.absent_since or now
        self.lost_renewals.update(self.renewals[renewals:])
        self.left.clear()

    # ---------------------------------------------------------------- what receipts say

    def said(self, receipt: Receipt, now: float) -> None:
        self.bases[str(receipt.basis)] = self.bases.get(str(receipt.basis), 0) + 1
        if not receipt.view()["enforced"]:
            return
        if not receipt.members:
            raise Violation(f"revision {receipt.revision} is said to be enforced by nobody")
        node = self.by_hash[receipt.committed.entry.hash]
        if (
            receipt.basis is Basis.ALL_ACKED
            and node.absent_since is not None
            and node.absent_since < now - LONGEST_CALL
        ):
            raise Violation(f"Redis does not have revision {receipt.revision}, of which the receipt says enforced")
        self.enforced.append((node, receipt))

    # ---------------------------------------------------------------- what is written

    def look(self, data: bytes, requests: dict[int, Request], direction: str) -> None:
        """Bytes at a replica's ``write()``."""
        for mark in MARK.findall(data):
            request = requests[int(mark)]
            self.writes += 1
            if direction == "to the model" and request.sent_under is None:
                request.sent_under = request.replica.node
            for node, receipt in self.enforced:
                if self._violates(request, node):
                    raise Violation(
                        f"{request.model} for {request.caller}: a byte {direction} by {request.replica.proc.name} at "
                        f"revision {request.replica.position}, after the receipt for revision {node.position.rev} said "
                        f"enforced ({receipt.basis}): {receipt.view()}"
                    )

    def _violates(self, request: Request, node: Node) -> bool:
        replica = request.replica
        if node.denial(request.caller, request.model) is None or self._permitted_later(request, node):
            return False
        if node.lost and node not in replica.known:
            return False  # Redis forgot what it had acknowledged; only who knows the revision is bound by it
        if replica.lease in self.lost_renewals:
            return False  # it forgot the renewal that this lease is from
        return not self._in_grace(request, node)

    def _permitted_later(self, request: Request, node: Node) -> bool:
        return any(
            later.position.rev > node.position.rev and later.denial(request.caller, request.model) is None
            for later in self.nodes[node.order + 1 :]
        )

    @staticmethod
    def _in_grace(request: Request, node: Node) -> bool:
        """Let finish by an earlier revision, whose receipt waits for it; every one since let it finish too."""
        first, denials = node, []
        for earlier in node.chain():
            denial = earlier.denial(request.caller, request.model)
            if denial is None:
                break
            first = earlier
            denials.append(denial)
        began_before = request.sent_under is not None and first not in set(request.sent_under.chain())
        return first is not node and began_before and all(denial.let_finish for denial in denials)


# ------------------------------------------------------------------------------------------------ a replica


class Transport:
    """A socket without a network. A stalled peer takes nothing; what is written stays in the process."""

    def __init__(self, world: "World", proc: Proc, protocol: Any, direction: str) -> None:
        self.world, self.proc, self.protocol, self.direction = world, proc, protocol, direction
        self.stalled = False
        self.reading = True
        self.lost = False
        self._closing = False
        self._buffer = b""
        self._high = 64 * 1024
        self.on_data: Callable[[bytes], None] = lambda _: None

    def write(self, data: bytes) -> None:
        if not self._closing:
            self.world.look(data, self.direction)
            if self.stalled:
                self._buffer += data
            else:
                self.on_data(data)

    def take(self) -> None:
        """The peer takes what has been waiting: the loop's own flush."""
        data, self._buffer = self._buffer, b""
        self.stalled = False
        if data:
            self.world.look(data, self.direction)
            self.on_data(data)
        if self._closing:
            self._end()

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or 0

    def get_extra_info(self, name: str) -> socket.socket | None:
        """A socket on which nothing ever arrives."""
        return SILENT if name == "socket" else None

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Half-closed."""

    def close(self) -> None:
        """Close, once what waits is sent."""
        self._closing = True
        if not self._buffer:
            self._end()

    def abort(self) -> None:
        """Close at once."""
        self._buffer = b""
        self._end()

    def _end(self) -> None:
        self._closing = True
        if not self.lost:
            self.lost = True
            self.world.loop.within(self.proc, self.protocol.connection_lost, None)


class Provider:
    """The other end of an upstream connection: one answer at a time, in pieces, when the world says so."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.mark: bytes | None = None
        self.thinks = False
        self.begun = False
        transport.on_data = self.asked

    def asked(self, data: bytes) -> None:
        found = MARK.search(data)
        if found:
            self.mark, self.begun, self.thinks = found.group(1), False, b"think" in data

    def speak(self) -> None:
        """The next piece of an answer."""
        if self.mark is None or self.thinks:
            return
        head = (
            b""
            if self.begun
            else b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.begun = True
        self._send(head + b"%x\r\ndata: ~%b~\n\n\r\n" % (len(self.mark) + 10, self.mark))

    def finish(self) -> None:
        """The end of an answer."""
        if self.mark is not None and self.begun:
            self.mark = None
            self._send(b"0\r\n\r\n")

    def _send(self, data: bytes) -> None:
        transport = self.transport
        if not transport.is_closing() and transport.reading:
            transport.world.loop.within(transport.proc, self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if not self.transport.is_closing():
            buffer = self.transport.protocol.get_buffer(len(data))
            buffer[: len(data)] = data
            self.transport.protocol.buffer_updated(len(data))


class ReplicaProc:
    """A worker process, as ``gateway.proxy.worker`` puts it together."""

    def __init__(self, world: "World", machine: str, rate: float) -> None:
        self.world, self.machine = world, machine
        self.proc = Proc(f"{machine}-0", rate, offset=world.random.uniform(0, 1e6))
        self.clients: list[Transport] = []
        self.providers: list[Provider] = []
        self.lease = ""
        self._leases: dict[float, str] = {}
        self.proc.context.copy().run(self._start)
        self.known: set[Node] = set()
        if (remembered := world.disks.get(f"/{machine}")) is not None:
            self._learn(remembered.entry.position)

    def _start(self) -> None:
        lines = self.world.lines
        commands, feed = client_for(lines, self.machine), client_for(lines, self.machine, 7.0)
        self.agent = Agent(
            f"{self.machine}-0", Path(f"/{self.machine}"), SIGNER, KEYS, commands, feed, "0", SIGNER.voucher
        )
        self.directory = Directory(self._load)
        self.gate = Gate(SETTINGS, self.agent.replica, self.directory, None)
        for provider in self.gate.providers.values():
            provider.pool._dialler.open = self._dial  # type: ignore[method-assign]
        self.gate.swept = self.agent.swept
        self._observe(self.agent.replica)
        self.agent.start(self.gate)
        self.gate.sweep()

    async def _load(self, key: str) -> CallerRecord | None:
        try:
            return await self.agent.records.caller_by_key(key)
        except RedisError as error:
            raise OSError(str(error)) from error

    def _observe(self, replica: Any) -> None:
        """Note what was applied, and which renewal the lease is from."""
        applied, answered = replica.applied, replica.answered

        def note_applied(position: Position) -> None:
            applied(position)
            self._learn(position)

        def note_answered(renewal: Any, status: str, nonce: str) -> None:
            before = replica._renewed_at
            answered(renewal, status, nonce)
            if status == "OK" and replica._renewed_at != before:
                self.lease = nonce

        replica.applied, replica.answered = note_applied, note_answered

    def _learn(self, position: Position) -> None:
        for node in self.world.judge.by_hash[position.hash].chain():
            if node in self.known:
                break
            self.known.add(node)

    @property
    def position(self) -> Position | None:
        return self.agent.replica.position

    @property
    def node(self) -> Node | None:
        return None if self.position is None else self.world.judge.by_hash[self.position.hash]

    @property
    def runs(self) -> bool:
        return not self.proc.dead and not self.proc.paused

    def ask(self, data: bytes, *, stalled: bool) -> None:
        """A client connects and sends a request."""

        def accept() -> None:
            protocol = ClientConnection(self.gate)
            transport = Transport(self.world, self.proc, protocol, "to the client")
            transport.stalled = stalled
            self.clients.append(transport)
            protocol.connection_made(cast("Any", transport))
            protocol.data_received(data)

        self.world.loop.within(self.proc, accept)

    async def _dial(self, factory: Callable[[], Any]) -> Any:
        """What names, addresses and TLS come to in the end."""
        _, protocol = await self.world.loop.create_connection(factory)
        return protocol

    async def connect(self, factory: Callable[[], Any]) -> tuple[Any, Any]:
        """A connection to the provider."""
        protocol = factory()
        transport = Transport(self.world, self.proc, protocol, "to the model")
        self.providers.append(Provider(transport))
        protocol.connection_made(transport)
        return transport, protocol

    def speak(self) -> None:
        """Every provider that has something to say says it."""
        self.clients = [client for client in self.clients if not client.lost]
        self.providers = [provider for provider in self.providers if not provider.transport.is_closing()]
        for provider in self.providers:
            provider.speak()


# ------------------------------------------------------------------------------------------------ a control process


class ControlProc:
    """A control process: commits, and proves what it committed."""

    def __init__(self, world: "World", machine: str, rate: float) -> None:
        self.world = world
        self.proc = Proc(machine, rate, offset=world.random.uniform(0, 1e6))
        self.last: Receipt | None = None
        self.proc.context.copy().run(self._start, machine)

    def _start(self, machine: str) -> None:
        lines = self.world.lines
        self.redis = client_for(lines, machine)
        self.store = Store(cast("Any", self.redis), KEYS, SIGNER)
        self.receipts = Receipts(self.store, cast("Any", client_for(lines, machine, 7.0)))
        self.receipts.start()

    def begin(self, work: Any) -> None:
        """Start a call of the admin API."""
        loop, context = self.world.loop, self.proc.context.copy()
        task = loop.create_task(work, context=context)
        self.world.calls.append(task)

    async def change(
        self, compose: Callable[[Document], tuple[Document | None, list[str]]], edit: Edit | None = None
    ) -> None:
        """Commit an edit and open its receipt, as ``control.changes`` does; a lost answer is asked for again."""
        op_id = f"op-{self.world.number()}"
        for _ in range(TRIES):
            try:
                base = await self.store.current()
                document, models = compose(base.document)
                committed = await self.store.commit(
                    base, document, actor="op", action="edit", subject=op_id, edit=edit, op_id=op_id
                )
            except ConflictError:
                continue
            except (NotInitialisedError, ForgedError):
                return  # the call fails
            except (RedisError, OSError, TimeoutError):
                await self._again(op_id)
                return
            if not committed.repeated or await self.receipts.get(committed.entry.rev) is None:
                self._open(committed, models)
            return

    async def _again(self, op_id: str) -> None:
        """The caller repeats the call with its key."""
        for _ in range(2):
            try:
                if not await self.redis.hexists(KEYS.ops, op_id):
                    return
                committed = await self.store.commit(
                    await self.store.current(), None, actor="op", action="repeat", subject=op_id, op_id=op_id
                )
                if await self.receipts.get(committed.entry.rev) is None:
                    self._open(committed, [])
            except (RedisError, OSError, TimeoutError, ConflictError, NotInitialisedError, ForgedError):
                continue
            return

    def _open(self, committed: Committed, models: list[str]) -> None:
        self.last = self.receipts.open(committed, models)

    async def restore(self) -> None:
        """``portcullis init`` after a loss, with what some machine remembers."""
        found = self.world.remembered()
        document = found.document if found else first_document()
        try:
            await self.store.init(
                document, self.world.caller_edit(self.store), actor="op", restored=found.entry.position if found else None,
                action="restore" if found else "init",
            )  # fmt: skip
        except (AlreadyInitialisedError, RedisError, OSError, TimeoutError):
            return

    async def bury(self, member: str) -> None:
        """Say that a worker is dead, as the kernel reported it to its supervisor."""
        try:
            await self.redis.register_script(LEAVE)(keys=[KEYS.replicas, KEYS.acks], args=[member, ""])
        except (RedisError, OSError, TimeoutError):
            return


# ------------------------------------------------------------------------------------------------ all together


@dataclass
class Saved:
    """What a backup or a lagging replica of Redis has."""

    state: State
    renewals: int


ACTIONS = (
    "advance", "request", "crash", "restart", "leave", "pause", "go_on", "weather", "crash_control", "change", "save",
    "fall_back", "restart_redis", "restore",
)  # fmt: skip
"""What is done to a world: each is a step."""


class World:
    """Machines, lines, Redis, clients, providers, and the judge."""

    def __init__(self, seed: int, machines: int = 3, rates: tuple[float, ...] = (1.0, 0.9901, 1.0099)) -> None:
        self.random = Random(seed)
        self.loop = VirtualLoop()
        self.server = FakeServer()
        self.judge = Judge(self.server)
        self.server.on_script = lambda *done: self._guarded(self.judge.executed, *done)
        self.lines = Lines(self.loop, self.server, self.random)
        self.disks: dict[str, Remembered] = {}
        self.requests: dict[int, Request] = {}
        self.calls: list[Any] = []
        self.saved: list[Saved] = []
        self.zombies: list[ReplicaProc] = []
        self.replicas: dict[str, ReplicaProc] = {}
        self.steps = 0
        for name in ACTIONS:
            setattr(self, name, self._counted(getattr(self, name)))
        self._numbers = 0
        self._rates = rates
        self._problems: list[BaseException] = []
        self._stack = ExitStack()
        self._patch()
        self.loop.connect = self._connect
        with self.loop.running():
            self.controls = [ControlProc(self, f"c{n}", self.rate()) for n in range(2)]
        self._begin()
        with self.loop.running():
            self.replicas |= {f"r{n}": ReplicaProc(self, f"r{n}", self.rate()) for n in range(machines)}
        self.run(0.3)

    def _counted(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            return action(*args, **kwargs)

        return counted

    def _begin(self) -> None:
        store = self.controls[0].store
        self.controls[0].begin(store.init(first_document(), self.caller_edit(store), actor="op"))
        self.run(0.1)

    @staticmethod
    def caller_edit(store: Store) -> Edit:
        edit = Edit()
        for name in CALLERS:
            edit |= store.put_caller(caller_record(name, "US"), None)
        return edit

    def rate(self) -> float:
        """A clock's speed: within one percent of the true one."""
        return self.random.choice(self._rates)

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    # ---------------------------------------------------------------- the real code's surroundings

    def _patch(self) -> None:
        def now() -> float:
            return PROC.get().boottime(self.loop.now)

        structlog.configure(processors=[_drop], wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        self._stack.callback(structlog.reset_defaults)
        close = Receipt.close

        def closed(receipt: Receipt, basis: Any, at: float) -> None:
            close(receipt, basis, at)
            self._guarded(self.judge.said, receipt, self.loop.now)
            self.loop.after(0.0, self.speak)
            self.loop.after(0.003, self.speak)

        for target, name, value in (
            (lease, "now", now),
            (Gate, "lease_clock", staticmethod(now)),
            (records_module, "load", LOAD),
            (tasks, "_done", self._task_done),
            (agent_module, "remember", self._remember),
            (agent_module, "recall", self._recall),
            (Receipt, "close", closed),
        ):
            self._stack.enter_context(mock.patch.object(target, name, value))

    def _task_done(self, task: Any) -> None:
        """No loop of a gateway may die of what it meets."""
        tasks._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._problems.append(error)

    def _remember(self, state_dir: Path, worker: str, entry: bytes, sealed: bytes) -> None:
        read = read_entry(entry, SIGNER)
        self.disks[str(state_dir)] = Remembered(read, open_document(read.doc, sealed, SIGNER), sealed)

    def _recall(self, state_dir: Path, verifier: Any) -> Remembered | None:
        return self.disks.get(str(state_dir))

    def remembered(self) -> Remembered | None:
        """The highest revision on any disk."""
        return max(self.disks.values(), key=lambda seen: seen.entry.rev, default=None)

    async def _connect(self, factory: Callable[[], Any]) -> tuple[Any, Any]:
        proc = PROC.get()
        replica = next(replica for replica in self.all_replicas() if replica.proc is proc)
        return await replica.connect(factory)

    def _guarded(self, step: Callable[..., None], *args: Any) -> None:
        """The judge's verdict must not be caught by the code that is judged."""
        try:
            step(*args)
        except Violation as violation:
            self._problems.append(violation)

    def look(self, data: bytes, direction: str) -> None:
        self._guarded(self.judge.look, data, self.requests, direction)

    def all_replicas(self) -> list[ReplicaProc]:
        return [*self.replicas.values(), *self.zombies]

    # ---------------------------------------------------------------- what happens

    def run(self, seconds: float) -> None:
        """Let time pass; then whoever may say something says it."""
        self.loop.run(seconds)
        self.check()

    def advance(self, seconds: float) -> None:
        """Time passes, with traffic in between."""
        for part in (0.5, 0.3, 0.2):
            self.run(seconds * part)
            self.speak()
            self.loop.settle()
            self.check()

    def until_renewed(self, machine: str) -> None:
        """Until a worker has just got a lease, or does not get one."""
        before = self.replicas[machine].lease
        for _ in range(300):
            if self.replicas[machine].lease != before:
                return
            self.run(0.005)

    def until_asked(self, machine: str) -> None:
        """Until a renewal of a worker's is on its way, and not yet answered."""
        renewing = self.replicas[machine].agent.replica
        for _ in range(1000):
            if renewing._pending:
                return
            self.run(0.001)

    def until_committed(self, known: int) -> None:
        """Until there are more revisions than were known, or something went wrong."""
        for _ in range(400):
            if len(self.judge.nodes) > known:
                return
            self.run(0.005)

    def check(self) -> None:
        """Whether the claim held, and nothing died."""
        if self._problems:
            raise self._problems[0]
        for call in [call for call in self.calls if call.done()]:
            self.calls.remove(call)
            if not call.cancelled() and call.exception() is not None:
                raise call.exception()
        for replica in self.all_replicas():
            failed = replica.gate.counters.samples()
            assert not [name for name, _, _ in failed if name == "portcullis_internal_errors_total"], "the gate failed"
        assert not self.loop.errors, self.loop.errors

    def speak(self) -> None:
        for replica in self.all_replicas():
            if not replica.proc.dead:
                replica.speak()

    def request(self, machine: str, caller: str, model: str, *, thinks: bool = False, stalled: bool = False) -> None:
        mark = self.number()
        replica = self.replicas[machine]
        if replica.proc.dead:
            return
        self.requests[mark] = Request(mark, caller, model, replica)
        says = f"~{mark}~ {'think' if thinks else ''}"
        body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": says}]}).encode()
        head = (
            "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: g\r\n"
            f"authorization: Bearer pc-{caller}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        with self.loop.running():
            replica.ask(head.encode() + body, stalled=stalled)
        self.run(0.0)

    def crash(self, machine: str, *, buried: bool) -> None:
        """SIGKILL. Its supervisor may say so to Redis."""
        replica = self.replicas[machine]
        if replica.proc.dead:
            return
        replica.proc.dead = True
        if buried:
            self.control().begin(self.control().bury(replica.agent.member))

    def restart(self, machine: str) -> None:
        """A worker under the same name; the former may still be there, asleep."""
        former = self.replicas[machine]
        if not former.proc.dead:
            if not former.proc.paused or len(self.zombies) > 3:
                return
            self.zombies.append(former)
        with self.loop.running():
            self.replicas[machine] = ReplicaProc(self, machine, former.proc.rate)

    def leave(self, machine: str) -> None:
        """SIGTERM, as ``Worker._leave`` does it."""
        replica = self.replicas[machine]
        if not replica.runs:
            return

        async def work() -> None:
            replica.agent.replica.drain()
            replica.gate.stop()
            replica.gate.close()
            await replica.agent.leave()
            replica.proc.dead = True

        with self.loop.running():
            self.calls.append(self.loop.create_task(work(), context=replica.proc.context.copy()))

    def pause(self, machine: str, *, suspend: bool = False) -> None:
        """SIGSTOP, or the machine sleeps."""
        proc = self.replicas[machine].proc
        if not proc.paused and not proc.dead:
            proc.paused = True
            proc.suspended_at = self.loop.now if suspend else None

    def go_on(self) -> None:
        """Everybody wakes up."""
        self.speak()  # data waits on the sockets of who wakes up
        for replica in self.all_replicas():
            if replica.proc.paused:
                self.loop.go_on(replica.proc)
        self.run(0.0)

    def weather(self, machine: str, kind: str) -> None:
        self.lines.weather[machine] = WEATHERS[kind]

    def control(self) -> ControlProc:
        return self.controls[0]

    def crash_control(self) -> None:
        """The control process dies; another is there, and a new one comes up in its place."""
        dead = self.controls.pop(0)
        dead.proc.dead = True
        with self.loop.running():
            self.controls.append(ControlProc(self, dead.proc.name, self.rate()))

    # ---------------------------------------------------------------- what operators do

    def change(
        self, compose: Callable[[Document], tuple[Document | None, list[str]]], edit: Edit | None = None
    ) -> None:
        with self.loop.running():
            self.control().begin(self.control().change(compose, edit))

    def offline(self, model: str, let_finish: float = 0.0) -> None:
        hold = {"models": [model], "by": "op", "at": AT, "in_flight": {"let_finish": let_finish}}
        self.change(lambda before: (before.edited(holds={**before.model_dump()["holds"], f"h-{model}": hold}), [model]))

    def online(self, model: str) -> None:
        def compose(before: Document) -> tuple[Document, list[str]]:
            return before.edited(holds={k: v for k, v in before.holds.items() if k != f"h-{model}"}), []

        self.change(compose)

    def max_stale(self, default: float) -> None:
        self.change(lambda before: (before.edited(max_stale={"default": default, "controlled": default / 2 + 0.5}), []))

    def caller(self, name: str, nationality: str | None) -> None:
        store = self.control().store
        key = KEYS.record("key", fingerprint(f"pc-{name}"))
        edit = store.put_caller(caller_record(name, nationality), None)
        if nationality is None:
            edit |= Edit({key: b""})
        self.change(lambda _: (None, []), edit)

    # ---------------------------------------------------------------- what happens to Redis

    def save(self) -> None:
        """A backup is made, or a replica of Redis stops following."""
        self.saved = [*self.saved[-2:], Saved(self.server.save(), len(self.judge.renewals))]

    def fall_back(self, saved: Saved | None) -> None:
        """Redis comes back empty, or as it was."""
        self.server.state = State() if saved is None else saved.state.copy()
        self.judge.lose(self.server.state, 0 if saved is None else saved.renewals, self.loop.now)
        self.lines.break_all()

    def restart_redis(self) -> None:
        self.lines.break_all()

    def restore(self) -> None:
        with self.loop.running():
            self.control().begin(self.control().restore())

    # ---------------------------------------------------------------- the end

    def finish(self) -> None:
        """Let go of every process."""
        self.loop.close()
        self._stack.close()


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent
