"""What is asked of every contender: a row each.

``post`` rows are closed loops: so many connections, each asking again as soon as it is answered. ``stream`` rows are
open: so many streams, each with an event every so often, so that events come one by one as they do from a model.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from bench_site import KILLED, MODEL, OURS

KIB, MIB = 1024, 1024 * 1024
CALLERS = "portcullis-callers"
"""The contender whose cache does not know everybody."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A row.

    ``only`` names the contenders that run it, beside the mark; none: all without tags. ``unknown_every``: to a
    contender that has such callers each so many-th request is of one that its cache does not know. ``latency``: the
    row is about time, and not about work: what a contender adds to a request or an event is shown.
    """

    name: str
    what: str
    kind: Literal["post", "stream"]
    connections: int
    body_bytes: int = KIB
    model: str = MODEL
    refused: bool = False
    pause: float = 0.0
    only: tuple[str, ...] = ()
    unknown_every: int = 0
    tls: bool = False
    latency: bool = False
    quick: bool = True


WORKLOADS = (
    Workload("post-1", "POST 1 KiB → 0.5 KiB, 1 connection", "post", 1, latency=True),
    Workload("post-64", "POST 1 KiB → 0.5 KiB, 64 connections", "post", 64),
    Workload("post-512", "POST 1 KiB → 0.5 KiB, 512 connections", "post", 512, quick=False),
    Workload("sse-400", "SSE, 400 streams, 20 events/s each", "stream", 400, pause=0.05, latency=True),
    Workload("refuse-64", "refusals of a model that is off, 64 connections", "post", 64, model=KILLED, refused=True),
    Workload("post-100k", "POST 100 KiB → 0.5 KiB, 64 connections", "post", 64, body_bytes=100 * KIB, quick=False),
    Workload("post-8m", "POST 8 MiB → 0.5 KiB, 8 connections", "post", 8, body_bytes=8 * MIB, quick=False),
    Workload("tls-64", "post-64 with TLS 1.3 on both sides, ECDSA P-256", "post", 64, tls=True, quick=False),
    Workload(
        "sse-4000", "SSE, 4,000 streams, 2 events/s each", "stream", 4_000, pause=0.5, latency=True, quick=False
    ),
    Workload(
        "directives-64", "post-64 under 1,000 directives", "post", 64, only=(OURS, "portcullis-directives"), quick=False
    ),
    Workload(
        "callers-64", "post-64, callers that the cache does not know", "post", 64, only=(OURS, CALLERS),
        unknown_every=1, quick=False,
    ),
    Workload(
        "tenth-64", "post-64, every tenth request of a caller that the cache does not know", "post", 64,
        only=(OURS, CALLERS), unknown_every=10, quick=False,
    ),
    Workload("two-64", "post-64 with two workers", "post", 64, only=(OURS, "portcullis-two"), quick=False),
)  # fmt: skip


def body(workload: Workload) -> bytes:
    """A chat request of exactly so many bytes; the bulk is one message, as a long prompt is."""
    stream = workload.kind == "stream"
    document: dict[str, Any] = {"model": workload.model, "messages": [{"role": "user", "content": ""}]}
    if stream:
        document["stream"] = True
    empty = len(json.dumps(document, separators=(",", ":")))
    document["messages"][0]["content"] = ("lorem ipsum dolor " * (workload.body_bytes // 18 + 1))[
        : workload.body_bytes - empty
    ]
    return json.dumps(document, separators=(",", ":")).encode()
