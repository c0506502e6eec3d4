"""A compiled policy: immutable, and asked once per request.

``decide`` is the decision, in the order that the policy defines. It knows no time and no lease; in front
of it the replica refuses what its lease no longer covers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from gateway.policy.caller import Caller, Kind, Subject, subject
from gateway.policy.cover import Cover, closed_by_holds
from gateway.policy.decision import Decision, Deny, Permit, Reason, Scope
from gateway.policy.directives import Rule, compile_directives
from gateway.policy.document import Document, EndUsers, Hold, State, rfc3339
from gateway.policy.names import opaque
from gateway.policy.resolution import Resolution

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)

MEMO_LIMIT = 65_536
"""Decisions remembered per snapshot; the memo starts anew beyond (a caller can make up unknown names for ever)."""


class Asked(NamedTuple):
    """What a request would invoke: the names it gives at a provider, or none.

    With no name, any model of ``capability`` at that provider could be the one. ``also`` are capabilities (``*``: any)
    of models that it could invoke beside those it names.
    """

    provider: str
    names: tuple[str, ...]
    capability: str = "chat"
    also: tuple[str, ...] = ()

    def meaning(self, capability: str) -> "Asked":
        """The same without names: any model of this capability."""
        return self._replace(names=(), capability=capability, also=())


_NOTHING: Mapping[str, bool] = MappingProxyType({})


def _attested(document: Document, at: datetime) -> dict[str, Mapping[str, bool]]:
    """What organisations' statements that hold by then say, by organisation."""
    return {
        org_id: MappingProxyType(org.attestation.terms)
        for org_id, org in document.orgs.items()
        if org.end_users is EndUsers.ATTESTED and org.attestation is not None and org.attestation.holds_at(at)
    }


class Snapshot:
    """One revision of the policy, compiled.

    ``offline`` maps each model that a hold closes to the hold that answers for it.
    """

    def __init__(
        self, document: Document, revision: int, at: datetime | None = None, like: "Snapshot | None" = None
    ) -> None:
        """Compile for a time: what begins or expires by ``at`` is taken as such, towards denying only.

        Without a time everything that time could deny is denied: windows have begun, attestations are over. ``like``
        is one of the same document and time: what that one compiled is taken.
        """
        self.document = document
        self.revision = revision
        self._at = at or _END_OF_TIME
        self._memo: dict[Any, Decision] = {}
        self._alternatives: dict[Any, list[str]] = {}
        self._eventual: Snapshot | None = None
        if like is None:
            self._cover = Cover(document.models)
            self.offline = closed_by_holds(document, self._cover)
            self.max_stale = {model_id: document.max_stale_of(model) for model_id, model in document.models.items()}
            ages = document.max_stale
            self.longest_stale = max(ages.default, ages.controlled, *self.max_stale.values(), 0.0)
            self._names = Resolution(document.models, self.offline)
            self._in_force, self._shadows = compile_directives(document, self._cover, self._at)
            self._attested = _attested(document, self._at)
            self.next_boundary = self._next_boundary()
        else:
            self._cover, self._names = like._cover, like._names  # noqa: SLF001 - one of its own kind
            self._in_force, self._shadows = like._in_force, like._shadows  # noqa: SLF001
            self._attested = like._attested  # noqa: SLF001
            self.offline, self.max_stale, self.longest_stale = like.offline, like.max_stale, like.longest_stale
            self.next_boundary = like.next_boundary
        self.resolve, self.find, self.name_at = self._names.resolve, self._names.find, self._names.name_at
        self.lookalikes = self._names.lookalikes
        self._anonymous = self._in_force.anonymous and self._shadows.anonymous

    @property
    def eventual(self) -> "Snapshot":
        """The same policy when everything that time makes it deny has begun: what is coming, for whoever asks."""
        if self._eventual is None:
            self._eventual = self if self.next_boundary is None else Snapshot(self.document, self.revision)
        return self._eventual

    def renumbered(self, revision: int) -> "Snapshot":
        """The same policy, compiled for the same time, as another revision: one that edits only callers.

        Not by ``copy``: a compiled class has no instances that its ``__init__`` has not seen. Decisions name their
        revision, so that none is taken over.
        """
        return Snapshot(self.document, revision, self._at, like=self)

    def with_hold(self, hold_id: str, hold: Hold) -> "Snapshot":
        """The same policy, compiled for the same time, with one hold more: to see what it would do."""
        document = self.document.model_copy(update={"holds": {**self.document.holds, hold_id: hold}})
        changed = Snapshot(document, self.revision, self._at, like=self)
        changed.offline = closed_by_holds(document, self._cover)
        return changed

    def _next_boundary(self) -> datetime | None:
        """When this is to be compiled anew: a window begins, an attestation expires. Both only deny more."""
        document = self.document
        begins = [d.window.from_ for d in document.directives.values() if d.state is State.IN_FORCE and d.window.from_]
        expires = [org.attestation.expires for org in document.orgs.values() if org.attestation is not None]
        return min((moment for moment in (*begins, *expires) if moment > self._at), default=None)

    # ------------------------------------------------------------------ the decision

    def decide(self, caller: Caller, asked: Asked, on_behalf_of: Caller | None = None) -> Decision:
        """Whether this caller may have what it asked for. The same question has one answer for ever."""
        if self._anonymous:
            key: Any = (caller.facts, asked, on_behalf_of and on_behalf_of.facts)
        else:
            key = (caller, asked, on_behalf_of)
        decision = self._memo.get(key)
        if decision is None:
            decision = self._decide(caller, asked, on_behalf_of)
            if any((asked.provider, name) not in self._names for name in asked.names):
                return decision  # a caller can make such names up for ever; those of the catalog are counted
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            self._memo[key] = decision
        return decision

    def look(self) -> Permit:
        """The decision for an operation that invokes nothing: permitted while the policy is known at all."""
        return Permit(models=(), revision=self.revision, max_stale=self.document.max_stale.default)

    def _decide(self, caller: Caller, asked: Asked, on_behalf_of: Caller | None) -> Decision:
        missing = self._end_user_missing(caller, on_behalf_of)
        if missing is not None:
            return missing
        subjects = self.subjects(caller, on_behalf_of)
        if not asked.names and not asked.also:
            return self._decide_unresolved(asked, subjects)

        # 1. a name the catalog does not know; another spelling of a denied model is refused as that model
        models = []
        for name in asked.names:
            model_id = self.resolve(asked.provider, name)
            if model_id is None:
                return self._unknown(asked, name, subjects)
            models.append(model_id)

        # 2. a hold, 3. a directive in force that applies; on these, or on what may run beside them unnamed
        deny = self._denied(models, subjects) or self._denied_unnamed(asked, subjects)
        if deny is not None:
            return deny

        # 4. permitted
        concerned = [*models, *(other for one in asked.also for other in self.candidates(asked.meaning(one)))]
        return Permit(
            models=tuple(models),
            revision=self.revision,
            max_stale=min(self.max_stale[model_id] for model_id in concerned),
            would_deny=next((rule.id for m in models for rule in self._shadows.applying(m, subjects)), None),
        )

    def _denied(self, models: list[str], subjects: tuple[Subject, ...]) -> Deny | None:
        """Steps 2 and 3 for all models of a request: any hold before any directive."""
        for model_id in models:
            if model_id in self.offline:
                return self._hurried(self._offline(model_id), models, subjects)
        for model_id in models:
            deny = self._restricted(model_id, subjects)
            if deny is not None:
                return self._hurried(deny, models, subjects)
        return None

    def decide_model(self, model_id: str, subjects: tuple[Subject, ...]) -> Deny | None:
        """Steps 2 and 3 for a model of the catalog."""
        return self._offline(model_id) if model_id in self.offline else self._restricted(model_id, subjects)

    def _decide_unresolved(self, asked: Asked, subjects: tuple[Subject, ...]) -> Decision:
        """No name: denied if any model that could be meant is denied, with order before without."""
        candidates = self.candidates(asked)
        denied = sorted(
            filter(None, (self.decide_model(model_id, subjects) for model_id in candidates)),
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
                let_finish=self._hurried(first, candidates, subjects).let_finish,
            )
        return Permit(
            models=(),
            revision=self.revision,
            max_stale=min((self.max_stale[m] for m in candidates), default=self.document.max_stale.controlled),
        )

    def _denied_unnamed(self, asked: Asked, subjects: tuple[Subject, ...]) -> Deny | None:
        """What the provider chooses: denied if it could choose what is denied, or what the catalog does not know."""
        for capability in asked.also:
            meaning = asked.meaning(capability)
            if not self.candidates(meaning):
                message = "The request names no model, and the catalog has none that it could mean. Name the model."
                return Deny(Reason.MODEL_UNRESOLVED, self.revision, message=message)
            decision = self._decide_unresolved(meaning, subjects)
            if isinstance(decision, Deny):
                return decision
        return None

    def _unknown(self, asked: Asked, name: str, subjects: tuple[Subject, ...]) -> Deny:
        """Another spelling or edition of a denied model is refused as that model; what could be any, as unresolved."""
        for lookalike in self._names.lookalikes(name):
            deny = self.decide_model(lookalike, subjects)
            if deny is not None:
                return deny
        if opaque(name):
            decision = self._decide_unresolved(asked.meaning("*"), subjects)
            if isinstance(decision, Deny):
                return decision
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

    def _restricted(self, model_id: str, subjects: tuple[Subject, ...]) -> Deny | None:
        """The directive that speaks: definite before not known, with order before without, lowest id."""
        speaking = self._in_force.speaking(model_id, subjects)
        if speaking is None:
            return None
        rule, verdict = speaking
        directive = rule.directive
        grace, until = directive.in_flight.let_finish, directive.window.until
        return Deny(
            Reason.RESTRICTED if verdict else Reason.ATTRIBUTE_UNKNOWN,
            self.revision,
            model=model_id,
            restriction=rule.id,
            order=directive.order,
            since=rfc3339(directive.window.from_ or directive.at),
            until=rfc3339(until) if until is not None else None,
            message=directive.public_message,
            let_finish=min(self._graces(model_id, subjects)) if grace else grace,
        )

    def _graces(self, model_id: str, subjects: tuple[Subject, ...]) -> list[float]:
        """How many seconds each directive that applies grants; the shortest counts."""
        return [rule.directive.in_flight.let_finish for rule in self._in_force.applying(model_id, subjects)]

    def _hurried(self, deny: Deny, models: Iterable[str], subjects: tuple[Subject, ...]) -> Deny:
        """The denial with the shortest grace of all that deny one of these models: one of them may be cut at once."""
        if not deny.let_finish:
            return deny
        graces = [deny.let_finish]
        for model_id in models:
            if model_id in self.offline:
                graces.append(self.offline[model_id].let_finish)
            graces += self._graces(model_id, subjects)
        return replace(deny, let_finish=min(graces))

    # ------------------------------------------------------------------ who asks

    def subjects(self, caller: Caller, on_behalf_of: Caller | None = None) -> tuple[Subject, ...]:
        """As whom a request is looked at: the caller; with an end user, the end user through it, and as itself.

        A restriction on either hits the request; the person's attributes are the end user's.
        """
        own = self._subject(caller, caller)
        if on_behalf_of is None:
            return (own,)
        return (self._subject(on_behalf_of, caller), self._subject(on_behalf_of, on_behalf_of))

    def _subject(self, person: Caller, asker: Caller) -> Subject:
        service = person is asker and asker.facts.kind is Kind.SERVICE
        attested = self.attested(asker.facts.org) if service else _NOTHING
        return subject(person.facts, asker.facts, asker.id, self.country(asker.facts.org), attested)

    def country(self, org_id: str | None) -> frozenset[str] | None:
        """An organisation's, as a known set."""
        org = self.document.orgs.get(org_id or "")
        return frozenset((org.country,)) if org is not None and org.country else None

    def attested(self, org_id: str | None) -> Mapping[str, bool]:
        """The terms that an organisation answers for all users of its services, where no end user is named."""
        return self._attested.get(org_id or "", _NOTHING)

    def _end_user_missing(self, caller: Caller, on_behalf_of: Caller | None) -> Deny | None:
        """An organisation may have to say for whom its services ask."""
        org = self.document.orgs.get(caller.facts.org or "") if caller.facts.kind is Kind.SERVICE else None
        if org is None or org.end_users is not EndUsers.REQUIRED or on_behalf_of is not None:
            return None
        message = "This service must say for whom it asks: send Portcullis-On-Behalf-Of."
        return Deny(Reason.ATTRIBUTE_UNKNOWN, self.revision, message=message)

    # ------------------------------------------------------------------ what there is

    def rules(self, model_id: str) -> tuple[Rule, ...]:
        """The directives in force on a model, in the order in which they speak."""
        return self._in_force.on(model_id)

    def candidates(self, asked: Asked) -> list[str]:
        """The models that a request without a name could invoke."""
        return [
            model_id
            for model_id, model in self.document.models.items()
            if asked.capability in ("*", model.capability) and any(r.provider == asked.provider for r in model.routes)
        ]

    def covered(self, patterns: Iterable[str]) -> list[str]:
        """The catalog's models that patterns mean today, sorted."""
        return sorted(self._cover(patterns))

    def alternatives(
        self,
        caller: Caller,
        provider: str,
        model_id: str | None,
        limit: int = 5,
        *,
        on_behalf_of: Caller | None = None,
    ) -> list[str]:
        """Names this caller may use instead at the same provider, of the same capability, the family's first.

        With an end user, what it may use for them.
        """
        facts = (caller.facts, on_behalf_of and on_behalf_of.facts)
        key = (facts if self._anonymous else (caller, on_behalf_of), provider, model_id)
        known = self._alternatives.get(key)
        if known is None:
            if len(self._alternatives) >= MEMO_LIMIT // 16:
                self._alternatives.clear()
            known = self._alternatives[key] = self._seek_alternatives(caller, provider, model_id, on_behalf_of)
        return known[:limit]

    def _seek_alternatives(
        self, caller: Caller, provider: str, model_id: str | None, on_behalf_of: Caller | None
    ) -> list[str]:
        refused = self.document.models.get(model_id or "")
        family = refused.family if refused else None
        capability = refused.capability if refused else "chat"
        found = []
        for other_id in self.candidates(Asked(provider, (), capability)):
            name = self.name_at(other_id, provider)
            if other_id == model_id or name is None:
                continue
            if isinstance(self.decide(caller, Asked(provider, (name,)), on_behalf_of), Permit):
                found.append((self.document.models[other_id].family != family, name))
        return [name for _, name in sorted(found)]
