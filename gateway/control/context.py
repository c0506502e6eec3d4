"""What handlers work with."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.control.drills import Drills
from gateway.control.evidence import Evidence
from gateway.control.local_holds import LocalHolds
from gateway.control.remembered import Operators
from gateway.enforcement.receipts import Receipts
from gateway.enforcement.store import Store
from gateway.observability.census import InFlight
from gateway.observability.metrics import Sample
from gateway.observability.refused import Row
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """The control process, as far as the admin API sees it.

    ``metrics`` gives the text exposition; ``ready`` says whether this gateway could serve. ``traffic``: how often
    each (caller, model) was permitted lately, for previews; ``None`` where nobody counts. ``refusal``: what this
    machine's workers remember of a refused request; ``refused``: the names that they refused as unknown.
    ``workers``: how many are in which state. ``restart`` replaces them one after the other, gives how many, and
    raises ``Conflict`` where that can't be. ``local`` and ``operators``: what stands on this machine, and who may
    close something here, while Redis cannot be reached; ``None`` where nobody keeps that. ``drills`` runs the
    canary's. ``samples``: what workers have counted by now; ``in_flight``: what is under way on this machine, by model.
    ``evidence`` keeps what is told.
    """

    settings: Settings
    store: Store
    receipts: Receipts
    metrics: Callable[[], Awaitable[bytes]]
    ready: Callable[[], bool]
    traffic: Callable[[], Awaitable[Mapping[tuple[str, str], int]]] | None = None
    refusal: Callable[[str], Awaitable[dict[str, Any] | None]] | None = None
    refused: Callable[[], Awaitable[list[Row]]] | None = None
    workers: Callable[[], Mapping[str, int]] | None = None
    restart: Callable[[], Coroutine[Any, Any, int]] | None = None
    local: LocalHolds | None = None
    operators: Operators | None = None
    drills: Drills | None = None
    evidence: Evidence | None = None
    samples: Callable[[], Awaitable[list[list[Sample]]]] | None = None
    in_flight: Callable[[], Awaitable[dict[str, InFlight]]] | None = None
