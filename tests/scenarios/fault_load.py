"""Who uses a cluster while it is broken: clients that note every byte, operators that kill and release and keep receipts."""

import asyncio
import json
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import judge
from cluster import Cluster
from judge import Denial, Got, Violation, clock
from raw import request
from system import System

ANTHROPIC, OPENAI = "/anthropic/v1/messages", "/openai/v1/chat/completions"
OPEN = "claude-opus-4-5"
KILLED = {"claude-fable-5": ANTHROPIC, "claude-mythos-5": ANTHROPIC, "gpt-5.4": OPENAI}
PATHS = {OPEN: ANTHROPIC, **KILLED}
PATIENCE = 10.0
"""Seconds until a client gives up: a worker that is stopped answers nothing."""

CALL_SECONDS = 4.0
AGAIN_SECONDS = 0.1


async def visit(gateway: System, model: str, tag: str, headers: dict[str, str], *, stream: bool) -> tuple[int, bytes]:
    """One request on a connection of its own: when it began, and all that came back until the end, whatever end."""
    address = urlsplit(gateway.proxy)
    body = {"model": model, "max_tokens": 99, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}
    key = {"authorization": "Bearer demo-alice"} if PATHS[model] == OPENAI else {"x-api-key": "demo-alice"}
    raw = bytearray()
    started = clock()
    writer = None
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            wanted = {**key, "X-Sim-Tag": tag, "Connection": "close", **headers}
            writer.write(request(PATHS[model], json.dumps(body).encode(), wanted))
            while data := await reader.read(65536):
                raw += data
    except (OSError, TimeoutError):
        pass
    finally:
        if writer is not None:
            writer.transport.abort()
    return started, bytes(raw)


@dataclass
class Load:
    """Clients, operators, and what is known of the receipts."""

    cluster: Cluster
    dice: random.Random
    clients: int = 10
    got: list[Got] = field(default_factory=list)
    denials: list[Denial] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    bases: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    requests: int = 0
    reached: int = 0
    _asking: list[asyncio.Task[None]] = field(default_factory=list)
    _operating: list[asyncio.Task[None]] = field(default_factory=list)
    _over: bool = False
    _since: int = 0
    _records: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def receipts(self) -> int:
        return self.bases["all_acked"] + self.bases["lease_expiry"]

    def start(self) -> None:
        dice = [random.Random(self.dice.random()) for _ in range(self.clients + len(KILLED))]
        self._asking = [asyncio.ensure_future(self._ask(dice.pop())) for _ in range(self.clients)]
        self._operating = [asyncio.ensure_future(self._operate(model, dice.pop())) for model in KILLED]

    async def stop(self) -> None:
        """Let clients end what they have begun; what operators wait for may never come."""
        self._over = True
        await asyncio.gather(*self._asking)
        for task in self._operating:
            task.cancel()
        await asyncio.gather(*self._operating, return_exceptions=True)

    def check_alive(self) -> None:
        """A client or an operator that has died sees no violation any more."""
        for task in (*self._asking, *self._operating):
            if task.done() and not task.cancelled():
                task.result()

    # ------------------------------------------------------------------ clients

    async def _ask(self, dice: random.Random) -> None:
        while not self._over:
            model, stream = dice.choice(list(PATHS)), dice.random() < 0.6
            tag = f"t-{self.requests}"
            self.requests += 1
            pace = {"X-Sim-Interval": "0.05", "X-Sim-Events": str(dice.randint(5, 60))}
            slow = {"X-Sim-Interval": "0", "X-Sim-First-Byte": f"{dice.uniform(0, 0.5):.3f}"}
            gateway = dice.choice(self.cluster.gateways)
            started, raw = await visit(gateway, model, tag, pace if stream else slow, stream=stream)
            self.outcomes["open" if model == OPEN else "killed", judge.ended(raw)] += 1
            self.got.append(Got(tag, model, started, judge.provided(raw)))
            await asyncio.sleep(dice.uniform(0.01, 0.1))

    # ------------------------------------------------------------------ operators

    async def _operate(self, model: str, dice: random.Random) -> None:
        while True:
            receipt = await self.call(dice, f"/api/v1/models/{model}/offline", {"note": "a drill"})
            denial = None
            if receipt.get("enforced"):
                denial = Denial(model, clock(), receipt=receipt)
                self.denials.append(denial)
            self.bases[str(receipt.get("basis"))] += 1
            await asyncio.sleep(dice.uniform(0.1, 1.2))
            if denial is not None:
                denial.end = clock()
            await self.call(dice, f"/api/v1/models/{model}/online", {})
            await asyncio.sleep(dice.uniform(0.1, 0.5))

    async def call(self, dice: random.Random, path: str, body: Any) -> dict[str, Any]:
        """The receipt of a change, asked for until there is one: at any gateway, as one operation."""
        key = uuid.uuid4().hex
        while True:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    answer = await self.cluster.ask(
                        dice.choice(self.cluster.gateways), "POST", f"{path}?wait=2", body, **{"Idempotency-Key": key}
                    )
            except (OSError, TimeoutError, aiohttp.ClientError):
                answer = None
            self.outcomes["operator", "no answer" if answer is None else str(answer.status)] += 1
            if answer is not None and answer.status == 200:
                return answer.json
            if answer is not None and answer.status in (404, 409, 412, 422):
                return {"basis": f"{answer.status} {answer.json.get('title', '')}"}
            await asyncio.sleep(AGAIN_SECONDS)

    # ------------------------------------------------------------------ judging

    async def judge(self) -> list[Violation]:
        """Hold what has ended since the last time against the receipts."""
        self.check_alive()
        got, self.got = self.got, []
        await self._read_journal()
        found = []
        for each in got:
            record = self._records.pop(each.tag, None)
            if record is not None and record["ended"] is None:
                record = await self.cluster.simulator.simulated(f"/_sim/requests/{record['serial']}")
            self.reached += record is not None
            found += judge.judge(each, record, self.denials)
        self.violations += found
        return found

    async def _read_journal(self) -> None:
        """What the simulator saw since the last time; of what still went on then it is asked again when it is over."""
        simulated = self.cluster.simulator.simulated
        fresh = (await simulated(f"/_sim/requests?since={self._since}&full=1&limit=100000"))["requests"]
        self._since = max((record["serial"] for record in fresh), default=self._since)
        for tag, record in list(self._records.items()):
            if record["ended"] is None:
                self._records[tag] = await simulated(f"/_sim/requests/{record['serial']}")
        self._records.update({record["tag"]: record for record in fresh if record["tag"]})
