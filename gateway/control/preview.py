"""Who gains, who loses, who is denied because something is not known of them: a change before it is made.

Two answers side by side: by profile, which is everyone there can be, and by the callers that are registered.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.control.edits import affected
from gateway.control.words import Vocabulary, shown
from gateway.enforcement.records import Records
from gateway.identity.records import CallerRecord
from gateway.policy.caller import Caller, Subject
from gateway.policy.decision import Decision, Deny, Permit, Reason
from gateway.policy.reach import TooManyProfilesError, enumerate_profiles
from gateway.policy.snapshot import Asked, Snapshot

MAX_CALLERS = 10_000
"""Callers that are looked at; with more, the counts are of the first by id, and it is said."""

AT_ONCE = 1000
"""Records read at a time."""

MAX_EXAMPLES = 20
NO_ORG = "no org"

Side = Literal["gains", "loses", "not_known"]
SIDES: tuple[Side, ...] = ("gains", "loses", "not_known")
Traffic = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Known:
    """The registered callers, as far as they were looked at."""

    records: Sequence[CallerRecord]
    total: int

    @property
    def said(self) -> dict[str, Any]:
        """How many were looked at."""
        return {"looked_at": len(self.records), "of": self.total, "capped": len(self.records) < self.total}


async def known(records: Records) -> Known:
    """The registered callers, up to a limit.

    Raises:
        ForgedError: a record is not one of ours.
    """
    names = await records.page("caller", limit=MAX_CALLERS)
    found: list[CallerRecord | None] = []
    for start in range(0, len(names), AT_ONCE):
        found += await records.callers(names[start : start + AT_ONCE])
    return Known([record for record in found if record is not None], max(len(names), await records.count("caller")))


# ------------------------------------------------------------------------------------------------ what changes


@dataclass(slots=True)
class _Effect:
    """What a change does about one model."""

    model: str
    profiles: dict[Side, list[Subject]] | None = None
    callers: dict[Side, list[CallerRecord]] = field(default_factory=lambda: {side: [] for side in SIDES})


def preview(
    before: Snapshot,
    after: Snapshot,
    models: Sequence[str],
    callers: Known,
    becoming: Mapping[str, Caller | None],
    traffic: Traffic | None,
    now: float,
) -> dict[str, Any]:
    """Who gains and who loses which of these models. ``becoming``: callers that the change edits, too.

    ``now`` is in seconds since the epoch.
    """
    effects = []
    different = set(affected(before, after))
    for model_id in models:
        profiles = _by_profile(before, after, model_id) if model_id in different else {side: [] for side in SIDES}
        effect = _Effect(model_id, profiles)
        for record in callers.records:
            old = record.caller().at(now)
            new = becoming.get(record.id, old)
            side = _side(_decide(before, old, model_id), _decide(after, new, model_id))
            if side is not None:
                effect.callers[side].append(record)
        effects.append(effect)
    words = {model_id: Vocabulary((before, after), [model_id]) for model_id in models}
    sides = {side: [_said(effect, side, words[effect.model], traffic) for effect in effects] for side in SIDES}
    return {
        **{side: [said for said in told if said is not None] for side, told in sides.items()},
        "callers": callers.said,
    }


def _by_profile(before: Snapshot, after: Snapshot, model_id: str) -> dict[Side, list[Subject]] | None:
    """Everyone there can be, sorted by what the change does to them; ``None``: too many to enumerate."""
    found: dict[Side, list[Subject]] = {side: [] for side in SIDES}
    try:
        for then, now in enumerate_profiles([before, after], [model_id]):
            side = _side(_of_profile(before, then, model_id), _of_profile(after, now, model_id))
            if side is not None:
                found[side].append(now)
    except TooManyProfilesError:
        return None
    return found


def _side(was: Decision | None, becomes: Decision | None) -> Side | None:
    """On which side of a change somebody is; ``None`` as a decision: there is no such model, or no such caller."""
    match was, becomes:
        case Permit(), Permit():
            return None
        case Permit(), Deny(reason=Reason.ATTRIBUTE_UNKNOWN):
            return "not_known"
        case Permit(), _:
            return "loses"
        case _, Permit():
            return "gains"
        case _:
            return None


def _of_profile(snapshot: Snapshot, profile: Subject, model_id: str) -> Decision | None:
    if model_id not in snapshot.document.models:
        return None
    return snapshot.decide_model(model_id, (profile,)) or snapshot.look()


def _decide(snapshot: Snapshot, caller: Caller | None, model_id: str) -> Decision | None:
    model = snapshot.document.models.get(model_id)
    if model is None or caller is None:
        return None
    provider = model.routes[0].provider
    return snapshot.decide(caller, Asked(provider, (a_name(snapshot, model_id, provider),)))


def a_name(snapshot: Snapshot, model_id: str, provider: str) -> str:
    """A name that a model has at a provider; where it has only patterns, one that fits."""
    plain = snapshot.name_at(model_id, provider)
    if plain is not None:
        return plain
    routes = (route for route in snapshot.document.models[model_id].routes if route.provider == provider)
    return next(routes).names[0].replace("*", "x")


# ------------------------------------------------------------------------------------------------ in words


def _said(effect: _Effect, side: Side, vocabulary: Vocabulary, traffic: Traffic | None) -> dict[str, Any] | None:
    callers = effect.callers[side]
    profiles = None if effect.profiles is None else effect.profiles[side]
    if not callers and profiles == []:
        return None
    told: dict[str, Any] = {"model": effect.model, "profiles": None, "examples": []}
    if profiles is not None:
        told |= shown(vocabulary, profiles, MAX_EXAMPLES)
    told["callers"] = counted(callers)
    if traffic is not None:
        told["recent_requests"] = sum(traffic.get((record.id, effect.model), 0) for record in callers)
    return told


def counted(callers: Sequence[CallerRecord]) -> dict[str, Any]:
    """How many callers, of which organisations. Who they are is not told: some would be told by it what they are."""
    by_org = Counter(record.org or NO_ORG for record in callers)
    return {"total": len(callers), "by_org": dict(sorted(by_org.items()))}
