"""More access under an order is not one person's to give, whatever was edited.

A change needs a second person's approval exactly if it lets some (profile, model) through that a restriction with an
order denied: by a term, a group, a tag, a name, a directive, a hold, a caller, an organisation's attestation. Read
strictly, in four ways, because otherwise two harmless steps would make one opening:

- What an order denied must still be denied *under an order*. Else a model under an order could be closed by one's own
  hold, the order's hold released (nobody gets through), and then one's own.
- What counts is every moment from now on. Else a directive's end could be moved to the next minute.
- A name that no model has any more counts as opened: another model could take it next.
- A pattern under an order also denies models that are added later, so that it is tried on one of those, too.

A new caller is no opening, nor is a key. Nobody was denied as that caller before, and what it may do is what the
policy already permits to whoever is like it. Whoever registers somebody with false attributes lies about a person,
under an id of their choice; a second signature on each new caller would not find that out, and the log says who did
it. For the same reason a caller that is gone and made anew is a new one. Changing what is known about a caller that
is there is an opening, where an order denied it before and does not afterwards: that is how a denial is argued away.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256

from gateway.control.catalog import is_pattern
from gateway.control.words import Vocabulary
from gateway.policy.caller import Caller, Kind, Subject
from gateway.policy.document import Directive, Document, Hold, Model, Part, Route, State, names_of, rfc3339
from gateway.policy.names import kinship, skeleton
from gateway.policy.reach import PERSONAL, TooManyProfilesError, enumerate_profiles, under_order
from gateway.policy.snapshot import Snapshot

MAX_MOMENTS = 50
"""Ends and beginnings of directives under an order that are looked at; with more, somebody else is asked."""

TOO_MANY = "more profiles than can be enumerated, so that it is not known"


class Opening(Part):
    """What a change would open: of which model (or name), to whom, as an example in words, of how many profiles.

    ``digest`` is of all of them: the same effect has the same.
    """

    model: str
    profile: str
    profiles: int
    digest: str


@dataclass(frozen=True, slots=True)
class Move:
    """A caller whose record is edited: what it was, and what it becomes; ``None`` where there is none."""

    old: Caller | None
    new: Caller | None


@dataclass(slots=True)
class _Found:
    """What was found so far: for each model, or name, whom it is opened to, in words and spelt out."""

    openings: dict[str, dict[str, str]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def add(self, model: str, profiles: Mapping[str, str]) -> None:
        """Note profiles by their exact spelling, each with its words; the plainest first."""
        if profiles:
            self.openings.setdefault(self.labels.get(model, model), {}).update(profiles)

    def result(self) -> list[Opening]:
        """Each with an example."""
        return [
            Opening(
                model=model,
                profile=next(iter(profiles.values())),
                profiles=len(profiles),
                digest=sha256("\0".join(sorted(profiles)).encode()).hexdigest(),
            )
            for model, profiles in self.openings.items()
        ]


@dataclass(frozen=True, slots=True)
class _Step:
    """Before and after, at a moment, which is told where it is not now."""

    before: Snapshot
    after: Snapshot
    moment: datetime
    told: str = ""


def openings(before: Document, after: Document, moves: Sequence[Move], now: datetime) -> list[Opening]:
    """What a change lets through that an order denied. A change that opens nothing needs nobody's approval."""
    found = _Found()
    _agreed_ends(before, after, found)
    if not moves and not found.openings and _only_closes(before, after):
        return []
    moments = _moments(before, after, moves, now)
    if len(moments) > MAX_MOMENTS:
        found.add("*", {TOO_MANY: TOO_MANY})
        return found.result()
    later = _later_models(before, after)
    found.labels = {model_id: f"{pattern} (a model added later)" for model_id, (pattern, _) in later.items()}
    before, after = (_with(document, later) for document in (before, after))
    for moment in moments:
        told = "" if moment == now else f"from {rfc3339(moment)}: "
        step = _Step(_at(before, moment, now, before), _at(after, moment, now, before), moment, told)
        for search in (_models, _lost_names, _new_names, _callers):
            search(step, moves, found)
    return found.result()


def _only_closes(before: Document, after: Document) -> bool:
    """Whether nothing but restrictions came to it. An emergency stop must not wait for an enumeration."""
    closing = {"holds", "directives", "orders", "changed"}
    same = all(getattr(before, name) == getattr(after, name) for name in Document.model_fields if name not in closing)
    in_force = {name: each for name, each in before.directives.items() if each.state is State.IN_FORCE}
    return same and _within(before.holds, after.holds) and _within(in_force, after.directives)


def _within(some: Mapping[str, object], others: Mapping[str, object]) -> bool:
    return all(others.get(name) == each for name, each in some.items())


# ------------------------------------------------------------------------------------------------ moments


def _moments(before: Document, after: Document, moves: Sequence[Move], now: datetime) -> list[datetime]:
    """Now, and whenever something under an order begins or ends, or an attestation does."""
    callers = (caller for move in moves for caller in (move.old, move.new) if caller is not None)
    found = {now} | {datetime.fromtimestamp(each.expires, UTC) for each in callers if each.expires is not None}
    for document in (before, after):
        for directive in document.directives.values():
            if directive.state is State.IN_FORCE and directive.order is not None:
                found |= {moment for moment in (directive.window.from_, directive.window.until) if moment}
        for org in document.orgs.values():
            if org.attestation is not None:
                found.add(org.attestation.expires)
    return sorted(moment for moment in found if moment >= now)


def _at(document: Document, moment: datetime, now: datetime, before: Document) -> Snapshot:
    """The policy at a moment. A directive that will have ended is as good as lifted."""
    directives = {
        name: _ended(directive, moment, now, before.directives.get(name))
        for name, directive in document.directives.items()
    }
    return Snapshot(document.model_copy(update={"directives": directives}), 0, moment)


def _ended(directive: Directive, moment: datetime, now: datetime, was: Directive | None) -> Directive:
    """One under an order whose end passed where it was, and nobody agreed that this lifts it, stands on."""
    until = directive.window.until
    if until is None or until > moment:
        return directive
    passed = until <= now and was is not None and was.window.until == until
    stands_on = passed and directive.order is not None and not directive.window.reopens
    return directive if stands_on else directive.model_copy(update={"state": State.LIFTED})


def _agreed_ends(before: Document, after: Document, found: _Found) -> None:
    """That the end of a directive under an order lifts it by itself is for a second person to agree to."""
    for name, directive in after.directives.items():
        was = before.directives.get(name)
        new = directive.window.reopens and not (was is not None and was.window.reopens)
        if new and directive.order is not None and directive.window.until is not None:
            told = f"from {rfc3339(directive.window.until)}: whomever {name} denies"
            for pattern in directive.models:
                found.add(pattern, {told: told})


def _later_models(before: Document, after: Document) -> dict[str, tuple[str, Model]]:
    """For each pattern under an order a model such as may be added later, by a made-up id."""
    made = (_later(pattern, number) for number, pattern in enumerate(sorted(_patterns_under_orders(before))))
    taken = before.models.keys() | after.models.keys()
    return {made_id: (pattern, model) for made_id, pattern, model in made if made_id not in taken}


def _with(document: Document, later: Mapping[str, tuple[str, Model]]) -> Document:
    models = {model_id: model for model_id, (_, model) in later.items()}
    return document.model_copy(update={"models": {**document.models, **models}})


def _patterns_under_orders(document: Document) -> set[str]:
    directives = (each for each in document.directives.values() if each.state is State.IN_FORCE)
    restrictions: list[Hold | Directive] = [*document.holds.values(), *directives]
    ordered = (each for each in restrictions if each.order is not None)
    return {pattern for each in ordered for pattern in each.models if is_pattern(pattern)}


def _later(pattern: str, number: int) -> tuple[str, str, Model]:
    """A made-up id, the pattern, and a model that the pattern would cover, were it there."""
    kind, _, value = pattern.rpartition(":")
    filled = value.replace("*", "later").replace("?", "x")
    provider = filled if kind == "provider" else "later"
    model = Model(
        routes=(Route(provider=provider, names=(f"later-{number}",)),),
        family=filled if kind == "family" else None,
        tags=(filled,) if kind == "tag" else (),
    )
    return (f"later-{number}" if kind else filled), pattern, model


# ------------------------------------------------------------------------------------------------ models


def _restricted(snapshot: Snapshot) -> list[str]:
    """The models that something under an order restricts."""
    return [
        model_id
        for model_id in snapshot.document.models
        if (model_id in snapshot.offline and snapshot.offline[model_id].hold.order is not None)
        or any(rule.directive.order is not None for rule in snapshot.rules(model_id))
    ]


def _models(step: _Step, _: Sequence[Move], found: _Found) -> None:
    """Whom a model that is still there is opened to."""
    for model_id in _restricted(step.before):
        if model_id in step.after.document.models and not _same(step, model_id):
            found.add(model_id, _opened(step, model_id, model_id))


def _same(step: _Step, model_id: str) -> bool:
    """Whether nothing about a model is different, so that there is nothing to enumerate."""
    first, second = step.before, step.after
    ours, theirs = first.document, second.document
    asked = [[(rule.id, rule.directive) for rule in snapshot.rules(model_id)] for snapshot in (first, second)]
    return (
        asked[0] == asked[1]
        and first.offline.get(model_id) == second.offline.get(model_id)
        and (not asked[0] or (ours.terms, ours.groups, ours.orgs) == (theirs.terms, theirs.groups, theirs.orgs))
    )


def _opened(step: _Step, was: str, becomes: str | None) -> dict[str, str]:
    """Whom an order kept from a model, and none keeps from what its name means afterwards; the plainest first."""
    if becomes is not None and _closed_under_order(step.after, becomes):
        return {}
    models = {was, becomes or was}
    vocabulary = Vocabulary((step.before, step.after), models)
    try:
        profiles = [
            now
            for then, now in enumerate_profiles([step.before, step.after], models)
            if under_order(step.before, was, then) and (becomes is None or not under_order(step.after, becomes, now))
        ]
    except TooManyProfilesError:
        return {step.told + TOO_MANY: step.told + TOO_MANY}
    asked = "\n".join(vocabulary.asked)
    return {
        f"{step.told}{spelt(profile)}\n{asked}": step.told + vocabulary.say(profile)
        for profile in sorted(profiles, key=vocabulary.plainness)
    }


def spelt(profile: Subject) -> str:
    """A profile, exactly."""
    known = ((name, getattr(profile, name)) for name in (*PERSONAL, "org", "org_country", "caller", "kind"))
    told = (f"{name}={'?' if values is None else ','.join(sorted(values))}" for name, values in known)
    return ";".join((*told, *(f"{term}:{value}" for term, value in sorted(profile.attested.items()))))


def _closed_under_order(snapshot: Snapshot, model_id: str) -> bool:
    closed = snapshot.offline.get(model_id)
    return closed is not None and closed.hold.order is not None


# ------------------------------------------------------------------------------------------------ names


def _lost_names(step: _Step, _: Sequence[Move], found: _Found) -> None:
    """A name that meant a restricted model, and means another one or none; and requests that name none at all."""
    owners = {name: model_id for model_id, model in step.after.document.models.items() for name in names_of(model)}
    for model_id in _restricted(step.before):
        model = step.before.document.models[model_id]
        freed: dict[str | None, dict[str, str]] = {}
        for provider, name in sorted(names_of(model)):
            owner = owners.get((provider, name)) or step.after.resolve(provider, name)
            if owner != model_id and owner not in freed:
                freed[owner] = _opened(step, model_id, owner)
            found.add(f"{name} at {provider} ({model_id})", freed.get(owner, {}))
        still = step.after.document.models.get(model_id)
        if still is not None and still.capability != model.capability:
            found.add(f"{model.capability} requests that name no model ({model_id})", _opened(step, model_id, None))


def _new_names(step: _Step, _: Sequence[Move], found: _Found) -> None:
    """A name that a model gets, and that reads as a restricted one's or falls under a pattern of its names."""
    restricted = [(model_id, _claims(step.before, model_id)) for model_id in _restricted(step.before)]
    if not restricted:
        return
    for model_id, model in step.after.document.models.items():
        old = step.before.document.models.get(model_id)
        names = sorted(names_of(model) - (names_of(old) if old is not None else set()))
        for other, claims in restricted:
            taken = [name for name in names if other != model_id and claims(*name)]
            freed = _opened(step, other, model_id) if taken else {}
            for provider, name in taken:
                found.add(f"{name} at {provider} ({model_id})", freed)


def _claims(snapshot: Snapshot, model_id: str) -> Callable[[str, str], bool]:
    """Whether a name at a provider could be taken for one of a model's."""
    names = names_of(snapshot.document.models[model_id])
    known = (model_id, *(name for _, name in names))
    bare, kin = {skeleton(name) for name in known}, {kinship(name) for name in known}

    def claim(provider: str, name: str) -> bool:
        if skeleton(name) in bare or kinship(name) in kin:
            return True
        return any(owner == provider and meet(name, own) for owner, own in names)

    return claim


def meet(first: str, second: str) -> bool:
    """Whether some name fits both patterns, in which ``*`` stands for any text."""
    if "*" not in first + second:
        return first == second
    row = [not second[:j].strip("*") for j in range(len(second) + 1)]
    for i, letter in enumerate(first, 1):
        above, row = row, [letter == "*" and not first[:i].strip("*")]
        for j, other in enumerate(second, 1):
            star = "*" in (letter, other)
            row.append((above[j] or row[j - 1]) if star else above[j - 1] and letter == other)
    return row[-1]


# ------------------------------------------------------------------------------------------------ callers


def _callers(step: _Step, moves: Sequence[Move], found: _Found) -> None:
    """A caller whom an order denied as it was, and none denies as it becomes; a service's end users with it."""
    for move in moves:
        if move.old is None or move.new is None or move.old == move.new:
            continue
        for model_id in _restricted(step.before):
            told = f"{step.told}the caller {move.old.id}"
            if model_id in step.after.document.models and _freed(step, model_id, move.old, move.new):
                found.add(model_id, {told: told})


def _freed(step: _Step, model_id: str, old: Caller, new: Caller) -> bool:
    try:
        return any(
            under_order(step.before, model_id, then) and not under_order(step.after, model_id, now)
            for then, now in _as_whom(step, model_id, old, new)
        )
    except TooManyProfilesError:
        return True


def _as_whom(step: _Step, model_id: str, old: Caller, new: Caller) -> Iterator[tuple[Subject, Subject]]:
    """As whom a caller is looked at, before and after: as itself, and a service also with any end user there can be."""
    moment = step.moment.timestamp()
    ((then,), (now,)) = (step.before.subjects(old.at(moment)), step.after.subjects(new.at(moment)))
    yield then, now
    if Kind.SERVICE in (old.facts.kind, new.facts.kind):
        for profile, _ in enumerate_profiles([step.before, step.after], [model_id]):
            person = {name: getattr(profile, name) for name in PERSONAL}
            yield replace(then, **person, attested={}), replace(now, **person, attested={})
