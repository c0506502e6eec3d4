"""A control side against a real Redis: the admin API on a port, and replicas that acknowledge or do not."""

import asyncio
import contextlib
import io
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway import tasks
from gateway.control.app import Context, build
from gateway.control.bootstrap import initial
from gateway.control.data import data_dir
from gateway.control.pseudonyms import pseudonym
from gateway.control.seeds import OperatorSeed, load
from gateway.enforcement import scripts
from gateway.enforcement.connection import FEED_BLOCK_MS
from gateway.enforcement.keys import Keys
from gateway.enforcement.receipts import Receipts
from gateway.enforcement.signing import Signer
from gateway.enforcement.store import Store
from gateway.identity.records import Role
from gateway.policy.document import Hold
from gateway.settings import Settings

VIEWER, OPERATOR, APPROVER, REGISTRAR, AUDITOR = (
    "demo-viewer",
    "demo-operator",
    "demo-approver",
    "demo-registrar",
    "demo-auditor",
)
OTHER, SECOND = "demo-other", "demo-second"
EVERYONE = {
    VIEWER: {Role.VIEWER},
    OPERATOR: {Role.OPERATOR},
    OTHER: {Role.OPERATOR},
    APPROVER: {Role.APPROVER},
    SECOND: {Role.APPROVER},
    REGISTRAR: {Role.REGISTRAR},
    AUDITOR: {Role.AUDITOR},
}
FABLE = "/api/v1/models/claude-fable-5"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: Any

    def __getitem__(self, name: str) -> Any:
        return self.body[name]

    @property
    def problem(self) -> str:
        """The kind of the problem, having checked that it is one."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        assert self.body["status"] == self.status
        assert self.body["title"]
        assert self.body["detail"]
        return self.body["type"].rpartition(":")[2]


@dataclass
class Replica:
    """As the control side sees one: it follows the log and renews. ``deaf`` ones registered once and say no more."""

    store: Store
    name: str
    deaf: bool = False
    streams_cut: int = 0
    cut_per_revision: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    _task: Any = None

    @property
    def member(self) -> str:
        return f"{self.name}:{self.name * 2}"

    async def start(self) -> None:
        newest = await self.store.redis.xrevrange(self.store.keys.log, count=1)
        self.last = orjson.loads(newest[0][1][b"entry"])
        await self.renew()
        if not self.deaf:
            self._task = tasks.spawn(self._follow(), self.name)

    async def stop(self) -> None:
        await tasks.cancel(self._task)

    async def catch_up(self) -> None:
        """Speak up after all."""
        newest = await self.store.redis.xrevrange(self.store.keys.log, count=1)
        self.last = orjson.loads(newest[0][1][b"entry"])
        await self.renew()

    async def renew(self) -> None:
        keys, last = self.store.keys, self.last
        said = {"rev": last["rev"], "hash": last["hash"], "swept": last["rev"], "streams_cut": self.streams_cut}
        mac = self.store.voucher.renewal(self.member, {**said, "draining": 0, "finishing": ""})
        await self.store.redis.register_script(scripts.RENEW)(
            keys=[keys.cur, keys.replicas, keys.acks],
            args=[
                self.member,
                last["epoch"],
                last["rev"],
                last["hash"],
                last["rev"],
                self.streams_cut,
                0,
                "n",
                "here",
                "1",
                "",
                "",
                mac,
            ],
        )

    async def _follow(self) -> None:
        while True:
            answer = await self.store.redis.xread({self.store.keys.log: f"{self.last['rev']}-0"}, block=1000)
            for _, entries in answer or ():
                self.last = orjson.loads(entries[-1][1][b"entry"])
                self.streams_cut += self.cut_per_revision
                await self.renew()


@dataclass
class Gate:
    """A gateway's control side, and who talks to it."""

    settings: Settings
    store: Store
    receipts: Receipts
    client: TestClient
    is_ready: bool = True
    traffic: dict[tuple[str, str], int] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    restart: Any = None
    refused: list[Any] = field(default_factory=list)
    replicas: list[Replica] = field(default_factory=list)

    async def call(
        self, method: str, path: str, body: Any = None, token: str | None = OPERATOR, **headers: str
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named.setdefault("Authorization", f"Bearer {token}")
        data = io.BytesIO(body) if isinstance(body, bytes) else None if body is None else orjson.dumps(body)
        async with self.client.request(method, path, data=data, headers=named) as response:
            raw = await response.read()
            parsed = (
                orjson.loads(raw)
                if response.content_type.endswith("json") and "nd" not in response.content_type
                else raw
            )
            return Answer(response.status, response.headers, parsed)

    async def get(self, path: str, token: str | None = APPROVER, **headers: str) -> Answer:
        return await self.call("GET", path, token=token, **headers)

    async def post(self, path: str, body: Any = None, token: str | None = OPERATOR, **headers: str) -> Answer:
        return await self.call("POST", path, body, token, **headers)

    async def put(self, path: str, body: Any = None, token: str | None = APPROVER, **headers: str) -> Answer:
        return await self.call("PUT", path, body, token, **headers)

    async def delete(self, path: str, token: str | None = APPROVER, **headers: str) -> Answer:
        return await self.call("DELETE", path, token=token, **headers)

    async def replica(self, name: str = "w0", **how: Any) -> Replica:
        replica = Replica(self.store, name, **how)
        self.replicas.append(replica)
        await replica.start()
        return replica

    async def revision(self) -> int:
        return (await self.store.current()).rev

    async def state(self, model: str) -> str:
        return (await self.get(f"/api/v1/models/{model}"))["state"]

    async def hold(self, hold_id: str, model: str, by: str, ago: timedelta) -> None:
        """A hold as it was placed some time ago."""
        base = await self.store.current()
        hold = Hold(models=(model,), by=by, at=datetime.now(UTC) - ago)
        changed = {**base.document.changed, f"holds/{hold_id}": base.rev + 1}
        document = base.document.edited(holds={**base.document.holds, hold_id: hold}, changed=changed)
        await self.store.commit(base, document, actor=by, action="offline", subject=hold_id)

    async def settle(self) -> None:
        """Until every open receipt is closed."""
        for receipt in list(self.receipts._open.values()):
            await receipt.done.wait()


async def no_metrics() -> bytes:
    return b"portcullis_up 1\n"


async def start_gate(redis_server: str, directory: Path, mount: Any = None, **more: Any) -> Gate:
    """A control side with a prefix of its own, the seeds' catalog and callers, and an operator per role.

    ``mount`` puts more on its application.
    """
    settings = Settings(gateway="test", state_dir=directory, redis={"prefix": f"{{t{secrets.token_hex(8)}}}"}, **more)
    redis = Redis(unix_socket_path=redis_server, socket_timeout=5, protocol=2)
    feed = Redis(unix_socket_path=redis_server, socket_timeout=FEED_BLOCK_MS / 1000 + 2, protocol=2)
    store = Store(redis, Keys(settings.redis.prefix), Signer(Ed25519PrivateKey.generate()))
    seeds = load(*(data_dir("seeds") / f"{name}.toml" for name in ("catalog", "groups", "terms", "demo")))
    operators = {name: OperatorSeed(roles=frozenset(roles), token=name) for name, roles in EVERYONE.items()}
    await initial(
        store, seeds.document("test"), operators, seeds.callers, pseudonym=lambda caller: pseudonym(settings, caller)
    )
    receipts = Receipts(store, feed)
    receipts.start()
    gate = Gate(settings, store, receipts, None)

    async def traffic() -> Any:
        return gate.traffic

    async def refused() -> Any:
        return gate.refused

    async def restart() -> int:
        return await gate.restart()

    context = Context(
        settings,
        store,
        receipts,
        no_metrics,
        lambda: gate.is_ready,
        traffic,
        refused=refused,
        workers=lambda: gate.workers,
        restart=restart,
    )
    app = build(context)
    if mount is not None:
        mount(app, context)
    gate.client = TestClient(TestServer(app))
    await gate.client.start_server()
    return gate


async def stop_gate(gate: Gate) -> None:
    await gate.client.close()
    for replica in gate.replicas:
        await replica.stop()
    await gate.receipts.stop()
    await tasks.cancel(*(task for task in asyncio.all_tasks() if task.get_name().startswith("receipt-")))
    for client in (gate.store.redis, gate.receipts._feed):
        with contextlib.suppress(RedisError):
            await client.aclose()


@pytest_asyncio.fixture
async def empty_gate(redis_server: str, tmp_path: Path) -> AsyncIterator[Gate]:
    """No replica is listed."""
    gate = await start_gate(redis_server, tmp_path)
    yield gate
    await stop_gate(gate)


@pytest_asyncio.fixture
async def gate(empty_gate: Gate) -> Gate:
    """One replica acknowledges."""
    await empty_gate.replica()
    return empty_gate
