"""A compiled policy: immutable, and asked once per request.

``decide`` is the decision, in the order that the policy defines. It knows no time and no lease; in front
of it the replica refuses what its lease no longer covers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.policy.caller import Caller, Facts
from gateway.policy.decision import Decision, Deny, Permit, Reason, Scope
from gateway.policy.document import Document, Hold, Model, names_of, rfc3339
from gateway.policy.names import covers, skeleton

MEMO_LIMIT = 65_536
"""Decisions remembered per snapshot; the memo starts anew beyond (a caller can make up unknown names for ever)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request would invoke: the names it gives at a provider, or none.

    With no name, any model of ``capability`` at that provider could be the one.
    """

    provider: str
    names: tuple[str, ...]
    capability: str = "chat"


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a model is offline: the hold that speaks, and how many seconds requests in flight may go on."""

    hold_id: str
    hold: Hold
    let_finish: float


class Snapshot:
    """One revision of the policy, compiled.

    ``offline`` maps each model that a hold closes to the hold that answers for it.
    """

    def __init__(self, document: Document, revision: int) -> None:
        self.document = document
        self.revision = revision
        self.offline = _holds_by_model(document)
        self.max_stale = {model_id: document.max_stale_of(model) for model_id, model in document.models.items()}
        ages = document.max_stale
        self.longest_stale = max(ages.default, ages.controlled, *self.max_stale.values(), 0.0)
        self._exact: dict[tuple[str, str], str] = {}
        self._patterns: list[tuple[str, re.Pattern[str], str]] = []
        self._skeletons: dict[str, str] = {}
        for model_id, model in document.models.items():
            self._index(model_id, model)
        self._memo: dict[tuple[Facts, Asked], Decision] = {}

    def decide(self, caller: Caller, asked: Asked, on_behalf_of: Caller | None = None) -> Decision:
        """Whether this caller may have what it asked for. The same question has one answer for ever."""
        key = (caller.facts, asked)
        decision = self._memo.get(key)
        if decision is None:
            decision = self._decide(caller, asked, on_behalf_of)
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            self._memo[key] = decision
        return decision

    def look(self) -> Permit:
        """The decision for an operation that invokes nothing: permitted while the policy is known at all."""
        return Permit(models=(), revision=self.revision, max_stale=self.document.max_stale.default)

    def _decide(self, caller: Caller, asked: Asked, on_behalf_of: Caller | None) -> Decision:
        del caller, on_behalf_of  # holds are unconditional
        if not asked.names:
            return self._decide_unresolved(asked)

        # 1. a name the catalog does not know; another spelling of an offline model is refused as that model
        models = []
        for name in asked.names:
            model_id = self.resolve(asked.provider, name)
            if model_id is None:
                return self._unknown(name)
            models.append(model_id)

        # 2. a hold
        for model_id in models:
            if model_id in self.offline:
                return self._offline(model_id)

        return Permit(
            models=tuple(models),
            revision=self.revision,
            max_stale=min(self.max_stale[model_id] for model_id in models),
        )

    def _decide_unresolved(self, asked: Asked) -> Decision:
        """No name: denied if any model that could be meant is denied, with order before without."""
        candidates = self.candidates(asked)
        denied = sorted(
            (self._offline(model_id) for model_id in candidates if model_id in self.offline),
            key=lambda deny: (deny.order is None, deny.restriction or ""),
        )
        if denied:
            first = denied[0]
            return Deny(
                Reason.MODEL_UNRESOLVED,
                self.revision,
                restriction=first.restriction,
                order=first.order,
                since=first.since,
                message="The request names no model, and one it could mean is not available. Name the model.",
                let_finish=first.let_finish,
            )
        return Permit(
            models=(),
            revision=self.revision,
            max_stale=min((self.max_stale[m] for m in candidates), default=self.document.max_stale.controlled),
        )

    def resolve(self, provider: str, name: str) -> str | None:
        """The model that a name means at a provider, exactly; else ``None``."""
        model_id = self._exact.get((provider, name))
        if model_id is None:
            for owner, pattern, candidate in self._patterns:
                if owner == provider and pattern.fullmatch(name):
                    return candidate
        return model_id

    def candidates(self, asked: Asked) -> list[str]:
        """The models that a request without a name could invoke."""
        return [
            model_id
            for model_id, model in self.document.models.items()
            if model.capability == asked.capability and any(r.provider == asked.provider for r in model.routes)
        ]

    def alternatives(self, caller: Caller, provider: str, model_id: str | None, limit: int = 5) -> list[str]:
        """Names this caller may use instead at the same provider, of the same capability, the family's first."""
        refused = self.document.models.get(model_id or "")
        family = refused.family if refused else None
        capability = refused.capability if refused else "chat"
        found = []
        for other_id in self.candidates(Asked(provider, (), capability)):
            name = self.name_at(other_id, provider)
            if other_id == model_id or name is None:
                continue
            if isinstance(self.decide(caller, Asked(provider, (name,))), Permit):
                found.append((self.document.models[other_id].family != family, name))
        return [name for _, name in sorted(found)][:limit]

    def name_at(self, model_id: str, provider: str) -> str | None:
        """The first name a model has at a provider; its id where that is one of them."""
        names = [
            name
            for route in self.document.models[model_id].routes
            if route.provider == provider
            for name in route.names
            if "*" not in name
        ]
        return model_id if model_id in names else next(iter(names), None)

    def find(self, name: str) -> str | None:
        """The model an operator means: its id, or a name or alias it has anywhere."""
        if name in self.document.models:
            return name
        for (_, known), model_id in self._exact.items():
            if known == name:
                return model_id
        return None

    def covered(self, patterns: Iterable[str]) -> list[str]:
        """The catalog's models that patterns mean today, sorted."""
        return sorted(_covered(self.document, tuple(patterns)))

    def _unknown(self, name: str) -> Deny:
        lookalike = self._skeletons.get(skeleton(name))
        if lookalike is not None and lookalike in self.offline:
            return self._offline(lookalike)
        return Deny(Reason.UNKNOWN_MODEL, self.revision, model=name, scope=Scope.EVERYONE)

    def _offline(self, model_id: str) -> Deny:
        closed = self.offline[model_id]
        hold = closed.hold
        return Deny(
            Reason.MODEL_OFFLINE,
            self.revision,
            model=model_id,
            restriction=closed.hold_id,
            order=hold.order,
            scope=Scope.EVERYONE,
            since=rfc3339(hold.at),
            message=hold.public_message,
            let_finish=closed.let_finish,
        )

    def _index(self, model_id: str, model: Model) -> None:
        for provider, name in names_of(model):
            if "*" in name:
                pattern = re.compile(".*".join(re.escape(piece) for piece in name.split("*")))
                self._patterns.append((provider, pattern, model_id))
            else:
                self._exact[provider, name] = model_id
                self._claim_skeleton(skeleton(name), model_id)
        self._claim_skeleton(skeleton(model_id), model_id)

    def _claim_skeleton(self, bare: str, model_id: str) -> None:
        """One skeleton may fit two models; the one that is offline answers for it."""
        if bare not in self._skeletons or model_id in self.offline:
            self._skeletons[bare] = model_id


def _holds_by_model(document: Document) -> dict[str, Closed]:
    """For each model the hold that speaks: one under an order first, then by id; the shortest grace counts."""
    closed: dict[str, Closed] = {}
    ranked = sorted(document.holds.items(), key=lambda item: (item[1].order is None, item[0]))
    for hold_id, hold in ranked:
        grace = hold.in_flight.let_finish
        for model_id in _covered(document, hold.models):
            first = closed.get(model_id)
            if first is None:
                closed[model_id] = Closed(hold_id, hold, grace)
            elif grace < first.let_finish:
                closed[model_id] = Closed(first.hold_id, first.hold, grace)
    return closed


def _covered(document: Document, patterns: tuple[str, ...]) -> set[str]:
    return {
        model_id
        for model_id, model in document.models.items()
        if any(
            covers(pattern, model_id, model.family, frozenset(model.tags), frozenset(r.provider for r in model.routes))
            for pattern in patterns
        )
    }
