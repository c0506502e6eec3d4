"""A compiled policy: immutable, and asked once per request.

``decide`` is the decision, in the order that the policy defines. It knows no time and no lease; in front
of it the replica refuses what its lease no longer covers.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from gateway.policy.caller import Caller, Kind, Subject, subject
from gateway.policy.conditions import Compiler, Node
from gateway.policy.decision import Decision, Deny, Permit, Reason, Scope
from gateway.policy.document import Directive, Document, EndUsers, Hold, Model, State, names_of, rfc3339
from gateway.policy.names import covers, literal_start, skeleton
from gateway.policy.truth import Truth

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)

MEMO_LIMIT = 65_536
"""Decisions remembered per snapshot; the memo starts anew beyond (a caller can make up unknown names for ever)."""


class Asked(NamedTuple):
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


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled directive."""

    id: str
    directive: Directive
    who: Node
    exceptions: tuple[Node, ...]
    applies_to: Callable[[Subject], Truth] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        applies_to = self._unless_exempt if self.exceptions else self.who.evaluate
        object.__setattr__(self, "applies_to", applies_to)

    def applies(self, subjects: tuple[Subject, ...]) -> Truth:
        """Whether it applies to any of those as whom a request is looked at; ``None`` where that is not settled."""
        if len(subjects) == 1:
            return self.applies_to(subjects[0])
        verdicts = {self.applies_to(subject) for subject in subjects}
        return True if True in verdicts else None if None in verdicts else False

    def _unless_exempt(self, subject: Subject) -> Truth:
        """``who`` and no exception. An exception that is not known does not exempt, but leaves the question open."""
        verdict = self.who.evaluate(subject)
        if verdict is not False:
            for exception in self.exceptions:
                exempt = exception.evaluate(subject)
                if exempt is True:
                    return False
                if exempt is None:
                    verdict = None
        return verdict


class OnModel(NamedTuple):
    """The directives on one model, in the order in which they speak; ``first`` leaves out who asks the same again."""

    in_force: tuple[Rule, ...]
    first: tuple[Rule, ...]
    shadows: tuple[Rule, ...]


_NOTHING: Mapping[str, bool] = MappingProxyType({})


def _names_callers(node: Node) -> bool:
    """Whether a condition may tell callers apart by their id."""
    return (node.atom is not None and node.atom.attribute == "caller") or any(map(_names_callers, node.parts))


class Snapshot:
    """One revision of the policy, compiled.

    ``offline`` maps each model that a hold closes to the hold that answers for it.
    """

    def __init__(self, document: Document, revision: int, at: datetime | None = None) -> None:
        """Compile for a time: what begins or expires by ``at`` is taken as such, towards denying only.

        Without a time everything that time could deny is denied: windows have begun, attestations are over.
        """
        self.document = document
        self.revision = revision
        self._at = at or _END_OF_TIME
        self._cover = Cover(document.models)
        self.offline = _holds_by_model(document, self._cover)
        self.max_stale = {model_id: document.max_stale_of(model) for model_id, model in document.models.items()}
        ages = document.max_stale
        self.longest_stale = max(ages.default, ages.controlled, *self.max_stale.values(), 0.0)
        self._exact: dict[tuple[str, str], str] = {}
        self._patterns: list[tuple[str, re.Pattern[str], str]] = []
        self._skeletons: dict[str, str] = {}
        for model_id, model in sorted(document.models.items()):  # replicas read the document sorted
            self._index(model_id, model)
        self._memo: dict[Any, Decision] = {}
        self._alternatives: dict[Any, list[str]] = {}
        self._compile_directives()

    def decide(self, caller: Caller, asked: Asked, on_behalf_of: Caller | None = None) -> Decision:
        """Whether this caller may have what it asked for. The same question has one answer for ever."""
        if self._anonymous:
            key: Any = (caller.facts, asked, on_behalf_of and on_behalf_of.facts)
        else:
            key = (caller, asked, on_behalf_of)
        decision = self._memo.get(key)
        if decision is None:
            decision = self._decide(caller, asked, on_behalf_of)
            if any((asked.provider, name) not in self._exact for name in asked.names):
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
        if not asked.names:
            return self._decide_unresolved(asked, subjects)

        # 1. a name the catalog does not know; another spelling of a denied model is refused as that model
        models = []
        for name in asked.names:
            model_id = self.resolve(asked.provider, name)
            if model_id is None:
                return self._unknown(name, subjects)
            models.append(model_id)

        # 2. a hold
        for model_id in models:
            if model_id in self.offline:
                return self._hurried(self._offline(model_id), models, subjects)

        # 3. a directive in force that applies
        for model_id in models:
            deny = self._restricted(model_id, subjects)
            if deny is not None:
                return self._hurried(deny, models, subjects)

        # 4. permitted
        return Permit(
            models=tuple(models),
            revision=self.revision,
            max_stale=min(self.max_stale[model_id] for model_id in models),
            would_deny=next(filter(None, (self._shadowed(model_id, subjects) for model_id in models)), None),
        )

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

    def _hurried(self, deny: Deny, models: Iterable[str], subjects: tuple[Subject, ...]) -> Deny:
        """The denial with the shortest grace of all that deny one of these models: one of them may be cut at once."""
        if not deny.let_finish:
            return deny
        graces = [deny.let_finish]
        for model_id in models:
            if model_id in self.offline:
                graces.append(self.offline[model_id].let_finish)
            rules = self.rules(model_id)
            graces += [rule.directive.in_flight.let_finish for rule in rules if rule.applies(subjects) is not False]
        return replace(deny, let_finish=min(graces))

    # ------------------------------------------------------------------ directives

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

    def _restricted(self, model_id: str, subjects: tuple[Subject, ...]) -> Deny | None:
        """The directive that speaks: definite before not known, with order before without, lowest id."""
        open_question: Rule | None = None
        only = subjects[0] if len(subjects) == 1 else None
        for rule in self._on(model_id).first:  # in that order but for definiteness
            verdict = rule.applies(subjects) if only is None else rule.applies_to(only)
            if verdict is True:
                return self._deny(rule, model_id, subjects, Reason.RESTRICTED)
            if verdict is None and open_question is None:
                open_question = rule
        if open_question is None:
            return None
        return self._deny(open_question, model_id, subjects, Reason.ATTRIBUTE_UNKNOWN)

    def _shadowed(self, model_id: str, subjects: tuple[Subject, ...]) -> str | None:
        return next((r.id for r in self._on(model_id).shadows if r.applies(subjects) is not False), None)

    def _deny(self, rule: "Rule", model_id: str, subjects: tuple[Subject, ...], reason: Reason) -> Deny:
        directive = rule.directive
        until = directive.window.until
        grace = directive.in_flight.let_finish
        if grace:  # of all that apply, the shortest counts
            others = (r for r in self.rules(model_id) if r.applies(subjects) is not False)
            grace = min(other.directive.in_flight.let_finish for other in others)
        return Deny(
            reason,
            self.revision,
            model=model_id,
            restriction=rule.id,
            order=directive.order,
            since=rfc3339(directive.window.from_ or directive.at),
            until=rfc3339(until) if until is not None else None,
            message=directive.public_message,
            let_finish=grace,
        )

    def _compile_directives(self) -> None:
        document = self.document
        compiler = Compiler(document.groups, document.terms)
        self._attested = {
            org_id: MappingProxyType(org.attestation.terms)
            for org_id, org in document.orgs.items()
            if org.end_users is EndUsers.ATTESTED and org.attestation is not None and org.attestation.expires > self._at
        }
        self._in_force: list[tuple[Rule, frozenset[str]]] = []  # with the models that it covers
        self._shadows: list[tuple[Rule, frozenset[str]]] = []
        self._rules: dict[str, OnModel] = {}
        ranked = sorted(document.directives.items(), key=lambda item: (item[1].order is None, item[0]))
        self._anonymous = True  # callers with the same facts are one profile
        for directive_id, directive in ranked:
            target = self._in_effect(directive)
            if target is None:
                continue
            path = f"directives.{directive_id}"
            rule = Rule(
                directive_id,
                directive,
                compiler.compile(directive.who, f"{path}.who"),
                tuple(compiler.compile(e, f"{path}.except[{i}]") for i, e in enumerate(directive.except_)),
            )
            if any(_names_callers(node) for node in (rule.who, *rule.exceptions)):
                self._anonymous = False
            target.append((rule, self._cover(directive.models)))

    def _in_effect(self, directive: Directive) -> list[tuple[Rule, frozenset[str]]] | None:
        """Where a directive counts at this time: in force, in shadow, or nowhere."""
        begin = directive.window.from_
        begun = directive.begun or begin is None or begin <= self._at
        if directive.state is State.IN_FORCE and begun:
            return self._in_force
        return self._shadows if directive.state is State.SHADOW else None

    def _on(self, model_id: str) -> OnModel:
        """The directives on a model, sought when it is first asked for: most models of a large catalog never are."""
        found = self._rules.get(model_id)
        if found is None:
            in_force = tuple(rule for rule, models in self._in_force if model_id in models)
            shadows = tuple(rule for rule, models in self._shadows if model_id in models)
            found = self._rules[model_id] = OnModel(in_force, _first_of_each(in_force), _first_of_each(shadows))
        return found

    @property
    def next_boundary(self) -> datetime | None:
        """When this snapshot is to be compiled anew: a window begins, an attestation expires. Both only deny more."""
        begins = [
            d.window.from_ for d in self.document.directives.values() if d.state is State.IN_FORCE and d.window.from_
        ]
        expires = [org.attestation.expires for org in self.document.orgs.values() if org.attestation is not None]
        return min((moment for moment in (*begins, *expires) if moment > self._at), default=None)

    def rules(self, model_id: str) -> tuple["Rule", ...]:
        """The directives in force on a model, in the order in which they speak."""
        return self._on(model_id).in_force

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
        return sorted(self._cover(patterns))

    def _unknown(self, name: str, subjects: tuple[Subject, ...]) -> Deny:
        lookalike = self._skeletons.get(skeleton(name))
        deny = self.decide_model(lookalike, subjects) if lookalike is not None else None
        if deny is not None:
            return deny
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


class Cover:
    """Which models of a catalog patterns mean; each pattern is looked for once."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = [
            (model_id, model.family, frozenset(model.tags), frozenset(route.provider for route in model.routes))
            for model_id, model in sorted(models.items())
        ]
        self._ids = sorted(models)
        self._found: dict[str, frozenset[str]] = {}

    def __call__(self, patterns: Iterable[str]) -> frozenset[str]:
        """The ids of the models that any of the patterns means."""
        found = [self._one(pattern) for pattern in patterns]
        return found[0] if len(found) == 1 else frozenset[str]().union(*found)

    def _one(self, pattern: str) -> frozenset[str]:
        found = self._found.get(pattern)
        if found is None:
            found = self._found[pattern] = self._search(pattern)
        return found

    def _search(self, pattern: str) -> frozenset[str]:
        start = literal_start(pattern)
        near = slice(bisect_left(self._ids, start), bisect_left(self._ids, f"{start}\x7f"))  # ids are ASCII
        if pattern == start:
            return frozenset(model_id for model_id in self._ids[near] if model_id == pattern)
        if pattern == f"{start}*":
            return frozenset(self._ids[near])
        return frozenset(model[0] for model in self._models[near] if covers(pattern, *model))


def _first_of_each(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Of rules that ask the same, the one that speaks for all."""
    first: dict[tuple[Node, tuple[Node, ...]], Rule] = {}
    for rule in rules:
        first.setdefault((rule.who, rule.exceptions), rule)
    return tuple(first.values())


def _holds_by_model(document: Document, cover: Cover) -> dict[str, Closed]:
    """For each model the hold that speaks: one under an order first, then by id; the shortest grace counts."""
    closed: dict[str, Closed] = {}
    ranked = sorted(document.holds.items(), key=lambda item: (item[1].order is None, item[0]))
    for hold_id, hold in ranked:
        grace = hold.in_flight.let_finish
        for model_id in cover(hold.models):
            first = closed.get(model_id)
            if first is None:
                closed[model_id] = Closed(hold_id, hold, grace)
            elif grace < first.let_finish:
                closed[model_id] = Closed(first.hold_id, first.hold, grace)
    return closed
