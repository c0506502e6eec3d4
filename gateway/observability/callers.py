"""How many callers policy has refused lately, by model: whom an operator hits.

Exact within a replica, and bounded. Replicas cannot be added up, as a caller may have come to several of them:
the largest is the least that there can be, the sum is the most.
"""

from gateway.observability.metrics import Sample

WINDOW_SECONDS = 300.0
MAX_CALLERS = 10_000
"""Callers of one model that are told apart in a window, at most; further ones are not counted."""

Seen = dict[str, set[str]]


class CallersHit:
    """Pseudonyms by model, of this window and the one before."""

    def __init__(self) -> None:
        self._began = 0.0
        self._now: Seen = {}
        self._before: Seen = {}

    def add(self, model: str, caller: str, moment: float) -> None:
        """A caller was refused a model. ``moment`` is in seconds on a clock that runs on."""
        self._turn(moment)
        seen = self._now.setdefault(model, set())
        if len(seen) < MAX_CALLERS:
            seen.add(caller)

    def samples(self, replica: str, moment: float) -> list[Sample]:
        """How many different ones, by model."""
        self._turn(moment)
        models = self._now.keys() | self._before.keys()
        counts = {model: len(self._now.get(model, set()) | self._before.get(model, set())) for model in models}
        return [("portcullis_callers_blocked", (model, replica), count) for model, count in sorted(counts.items())]

    def _turn(self, moment: float) -> None:
        """Begin another window when it is time."""
        late = moment - self._began
        if late >= WINDOW_SECONDS:
            self._before = self._now if late < 2 * WINDOW_SECONDS else {}
            self._now, self._began = {}, moment
