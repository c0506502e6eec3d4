"""Whether a receipt lied: what clients got and what the provider emitted, held against the receipts.

A violation (docs/enforcement.md) is a byte that the simulator *emitted* while a receipt denied its model and that a
client got, or a request *started* while one did that reached the simulator. A receipt denies from when its answer was
read until just before the first call that could lift it was sent. All times are CLOCK_MONOTONIC nanoseconds of one
machine, as the simulator's are.
"""

import time
from dataclasses import dataclass, field
from typing import Any

FOREVER = 2**63


def clock() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


@dataclass
class Denial:
    """A model that a receipt closed: from when it was in somebody's hands until somebody began to open it again."""

    model: str
    begin: int
    end: int = FOREVER
    receipt: dict[str, Any] = field(default_factory=dict)

    def covers(self, moment: int) -> bool:
        return self.begin < moment < self.end


@dataclass(frozen=True)
class Got:
    """What one client saw of one request. ``provided``: bytes of the provider's body, without what the gateway added."""

    tag: str
    model: str
    started: int
    provided: int


@dataclass(frozen=True)
class Violation:
    what: str
    got: Got
    denial: Denial
    moment: int

    def __str__(self) -> str:
        late = (self.moment - self.denial.begin) / 1e6
        revision, basis = self.denial.receipt.get("revision"), self.denial.receipt.get("basis")
        return f"{self.got.tag}: {self.what} {late:.1f} ms after the receipt of revision {revision} ({basis})"


def judge(got: Got, record: dict[str, Any] | None, denials: list[Denial]) -> list[Violation]:
    """What one request did that a receipt ruled out. ``record`` is the simulator's, with emissions; ``None``: none."""
    found = []
    for denial in denials:
        if record is None or denial.model != got.model:
            continue
        if denial.covers(got.started) and denial.covers(record["head_ns"]):
            found.append(Violation("a request reached the provider that began", got, denial, got.started))
        before = 0
        for emitted, offset in record["emissions"]:
            if denial.covers(emitted) and got.provided > before:
                found.append(Violation("a client got bytes that were emitted", got, denial, emitted))
                break
            before = offset
    return found


def provided(raw: bytes) -> int:
    """How many bytes of the provider's body are in what came over the wire, whole or cut anywhere."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        return 0
    body = unchunked(rest) if b"transfer-encoding: chunked" in head.lower() else rest
    added = body.rfind(b'"portcullis"')
    return len(body) if added < 0 else body.rfind(b"\n\n", 0, added) + 2


def ended(raw: bytes) -> str:
    """How an answer stands: its status and reason, and whether it is whole."""
    head, separator, rest = raw.partition(b"\r\n\r\n")
    if not separator:
        return "nothing"
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    status = head[9:12].decode()
    if b"chunked" in lines.get(b"transfer-encoding", b""):
        whole = rest.endswith(b"0\r\n\r\n")
    else:
        whole = len(rest) == int(lines.get(b"content-length", b"0"))
    return " ".join(filter(None, (status, lines.get(b"portcullis-reason", b"").decode(), "" if whole else "cut")))


def unchunked(data: bytes) -> bytes:
    """The content of a chunked body that may end anywhere."""
    content = bytearray()
    while True:
        line, newline, data = data.partition(b"\r\n")
        if not newline or not line:
            return bytes(content)
        size = int(line, 16)
        content += data[:size]
        if len(data) < size + 2 or size == 0:
            return bytes(content)
        data = data[size + 2 :]
