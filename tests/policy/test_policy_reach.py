"""Who can still use a model: the enumeration against everybody there can be, in a universe small enough to walk."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import chain, combinations, product
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_policies import ABROAD, COUNTRIES, GROUPS, ORGS, PERSONAL, STATUSES, Maker
from samples import AT, document, hold, order

from gateway.policy.caller import Caller, Facts, Kind, Subject
from gateway.policy.conditions import Atom, Node
from gateway.policy.document import Document
from gateway.policy.reach import LIMIT, TooManyProfilesError, opened, reach
from gateway.policy.snapshot import Snapshot

FABLE = "claude-fable-5"
often = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
randoms = st.randoms(use_true_random=True)


# ---------------------------------------------------------------- everybody there can be


def sets(values: tuple[str, ...], least: int) -> list[frozenset[str] | None]:
    """Every set of these values, and not known."""
    found = chain.from_iterable(combinations(values, size) for size in range(least, len(values) + 1))
    return [None, *map(frozenset, found)]


PLACES = (*COUNTRIES, ABROAD)
UNIVERSE: dict[str, list[frozenset[str] | None]] = {
    "nationality": sets(PLACES, 1),
    "latest_nationality": [None, *(frozenset((country,)) for country in PLACES)],
    "permanent_residence": sets(PLACES, 0),
    "legal_status": sets((*STATUSES, "other"), 0),
}


def everybody(attributes: tuple[str, ...]) -> Iterator[tuple[Caller, Caller | None]]:
    """Every request that a policy about these attributes could tell apart: somebody's own, and for a user."""
    choices = [UNIVERSE[name] if name in attributes else [None] for name in PERSONAL]
    ids = ["ann", "ben", "svc", "someone"] if "caller" in attributes else ["someone"]
    orgs = [None, *ORGS, *(["nobody-yet", "elsewhere"] if "org" in attributes else [])]
    for known in product(*choices):
        facts = dict(zip(PERSONAL, known, strict=True))
        for kind, org, caller_id in product(Kind, orgs, ids):
            caller = Caller(caller_id, Facts(kind, org, **facts))
            yield caller, None
            if kind is Kind.SERVICE:
                yield Caller(caller_id, Facts(kind, org)), Caller("user", Facts(Kind.PERSON, **facts))


def met(attributes: tuple[str, ...], *snapshots: Snapshot) -> Iterator[tuple[Subject, ...]]:
    """As whom everybody is looked at, by each snapshot."""
    for who, user in everybody(attributes):
        yield tuple(snapshot.subjects(who, user)[0] for snapshot in snapshots)


def nodes_of(snapshot: Snapshot) -> Iterator[Node]:
    stack = [node for rule in snapshot.rules(FABLE) for node in (rule.who, *rule.exceptions)]
    while stack:
        node = stack.pop()
        stack += node.parts
        yield node


def told_apart(snapshot: Snapshot) -> Any:
    """What the policy sees of a subject: the answer to each of its tests, and what is attested of its terms."""
    atoms = sorted({node.atom for node in nodes_of(snapshot) if node.atom is not None}, key=repr)
    terms = sorted({node.term for node in nodes_of(snapshot) if node.term is not None})

    def answer(atom: Atom, subject: Subject) -> bool | None:
        known = getattr(subject, atom.attribute)
        return None if known is None else atom.holds(known)

    return lambda subject: (
        tuple(answer(atom, subject) for atom in atoms),
        tuple(subject.attested.get(term) for term in terms),
    )


ATTRIBUTES = [
    ("nationality",),
    ("nationality", "org"),
    ("nationality", "kind"),
    ("nationality", "permanent_residence"),
    ("permanent_residence", "legal_status", "org_country"),
    ("nationality", "legal_status"),
    ("latest_nationality", "permanent_residence", "caller"),
    ("latest_nationality", "legal_status", "kind", "org"),
    ("org", "org_country", "caller", "kind"),
    ("nationality", "latest_nationality"),
]


def drawn(random: Random) -> tuple[Maker, tuple[str, ...]]:
    attributes = random.choice(ATTRIBUTES)
    return Maker(random, attributes), attributes


def compiled(policy: Document) -> Snapshot:
    return Snapshot(policy, 1, AT)


def within_limits(maker: Maker) -> Snapshot:
    return compiled(maker.policy(directives={f"d-{n}": maker.directive() for n in range(maker.random.randint(1, 3))}))


@often
@given(randoms)
def test_reach_lists_exactly_the_profiles_that_somebody_permitted_has(random):
    maker, attributes = drawn(random)
    snapshot = within_limits(maker)
    profile = told_apart(snapshot)
    everyone: dict[Any, bool] = {}
    for (subject,) in met(attributes, snapshot):
        permitted = snapshot.decide_model(FABLE, (subject,)) is None
        assert everyone.setdefault(profile(subject), permitted) == permitted, "a profile is one to the policy"
    found = reach(snapshot, FABLE)
    listed = {profile(subject) for subject in found.permitted}
    expected = {seen for seen, permitted in everyone.items() if permitted}
    assert expected <= listed
    assert bool(expected) == bool(listed)
    if attributes != ("nationality", "latest_nationality"):  # where one settles the other, some listed cannot be
        assert expected == listed
        assert found.profiles >= len(everyone)


def edited(maker: Maker, made: Document) -> Document:
    """The same policy after some change, of whatever kind."""
    random, directives = maker.random, dict(made.directives)
    if directives and random.random() < 0.4:
        del directives[random.choice(list(directives))]
    if directives and random.random() < 0.4:
        name = random.choice(list(directives))
        directives[name] = directives[name].model_copy(update=maker.directive_fields())
    changes: dict[str, Any] = {"directives": directives}
    if random.random() < 0.4:
        changes["orgs"] = maker.orgs()
    if random.random() < 0.3:
        changes["terms"] = maker.policy().terms
    if random.random() < 0.2:
        changes["groups"] = {**GROUPS, "axis": {"countries": maker.some(COUNTRIES)}}
    if random.random() < 0.2:
        changes["holds"] = {}
    return made.edited(**changes)


class Editor(Maker):
    def directive_fields(self) -> dict[str, Any]:
        """One field of a directive, anew."""
        again = compiled(self.policy(directives={"d": self.directive()})).document.directives["d"]
        field = self.random.choice(["who", "except_", "models", "order", "state"])
        return {field: "shadow" if field == "state" else getattr(again, field)}


def under_orders_only(made: Document) -> Snapshot:
    """The policy with nothing in it but what an order stands behind."""
    return compiled(
        made.edited(
            holds={name: hold for name, hold in made.holds.items() if hold.order},
            directives={name: directive for name, directive in made.directives.items() if directive.order},
        )
    )


@often
@given(randoms)
def test_a_change_opens_a_model_exactly_if_there_is_somebody_it_lets_through(random):
    attributes = random.choice(ATTRIBUTES[:-1])
    maker = Editor(random, attributes)
    made = maker.policy(holds=True, directives={f"d-{n}": maker.directive() for n in range(random.randint(1, 3))})
    changed = edited(maker, made)
    before, ordered, after = compiled(made), under_orders_only(made), compiled(changed)
    found = opened(before, after, FABLE)
    expected = next(
        (
            now
            for then, now in met(attributes, before, after)
            if ordered.decide_model(FABLE, (then,)) is not None and after.decide_model(FABLE, (now,)) is None
        ),
        None,
    )
    assert (found is None) == (expected is None), (found, expected)
    if found is not None:
        assert after.decide_model(FABLE, (found,)) is None


@often
@given(randoms)
def test_what_denies_more_opens_nothing(random):
    maker, _ = drawn(random)
    made = maker.policy(holds=True)
    more = made.edited(directives={**made.directives, "d-more": maker.directive()})
    assert opened(compiled(made), compiled(more), FABLE) is None
    assert opened(compiled(made), compiled(made), FABLE) is None
    later = Snapshot(made, 1, AT + timedelta(days=2))
    assert opened(compiled(made), later, FABLE) is None, "nor does time"


# ---------------------------------------------------------------- the order this is for


US_PERSON = {
    "any": [
        {"nationality": {"any_of": ["US"]}},
        {"permanent_residence": {"any_of": ["US"]}},
        {"legal_status": {"any_of": ["us-protected-individual"]}},
    ]
}
WORD = {"terms": {"us-person": True}, "signer": "CEO", "evidence": "letter", "expires": AT + timedelta(days=30)}
ATTESTED = {"acme": {"country": "US", "end_users": "attested", "attestation": WORD}}


def directive(who: dict[str, Any], **fields: Any) -> dict[str, Any]:
    made = {"models": [FABLE], "state": "in_force", "order": "o-1", "by": "op", "at": AT}
    return {**made, "who": who, **fields}


def policy(*directives: dict[str, Any], **fields: Any) -> Document:
    made = {f"d-{n}": fields for n, fields in enumerate(directives, 1)}
    defaults: dict[str, Any] = {"orders": {"o-1": order()}, "terms": {"us-person": {"condition": US_PERSON}}}
    return document(directives=made, **{**defaults, **fields})


FOREIGN = {"not": {"term": "us-person"}}


def is_us_person(subject: Subject) -> bool:
    """The order's definition, in the words of the test and not in those of the policy."""
    return (
        "US" in (subject.nationality or ())
        or "US" in (subject.permanent_residence or ())
        or "us-protected-individual" in (subject.legal_status or ())
    )


@pytest.mark.parametrize("orgs", [{}, ATTESTED])
@pytest.mark.parametrize("others", [
    [],
    [directive({"nationality": {"any_of": ["CN", "IR"]}}, order=None)],
    [directive({"kind": {"any_of": ["service"]}}, **{"except": [{"org": {"any_of": ["acme"]}}]})],
])  # fmt: skip
def test_no_foreigner_reaches_a_model_that_is_for_us_persons(orgs, others):
    found = reach(compiled(policy(directive(FOREIGN), *others, orgs=orgs)), FABLE)
    assert found.permitted, "and Americans do"
    for subject in found.permitted:
        assert is_us_person(subject) or subject.attested == {"us-person": True}
    assert any(is_us_person(subject) for subject in found.permitted)
    assert any(subject.attested for subject in found.permitted) == bool(orgs)


def test_an_exception_shows_in_who_reaches_it():
    found = reach(compiled(policy(directive(FOREIGN, **{"except": [{"org": {"any_of": ["acme"]}}]}))), FABLE)
    foreign = [subject for subject in found.permitted if not is_us_person(subject)]
    assert foreign
    assert all(subject.org == frozenset({"acme"}) for subject in foreign)


def test_who_has_some_of_a_group_but_not_all_of_it_is_found():
    some = [directive({"nationality": {operator: ["group:g"]}}) for operator in ("none_of", "all_of")]
    found = reach(compiled(policy(*some, groups={"g": {"countries": ["CN", "IR", "KP"]}})), FABLE)
    assert [len(subject.nationality & {"CN", "IR", "KP"}) for subject in found.permitted] == [1]


def test_a_hold_lets_nobody_reach_it_and_no_directive_everybody():
    held = reach(compiled(policy(directive(FOREIGN), holds={"h-1": hold(FABLE)})), FABLE)
    assert (held.permitted, held.profiles > 0) == ((), True)
    free = reach(compiled(policy()), FABLE)
    assert len(free.permitted) == free.profiles == 1, "nobody is told apart"


PLAIN = policy(directive(FOREIGN))
CHINESE = {"nationality": {"any_of": ["CN"]}}
NEVER = {"all": [CHINESE, {"not": CHINESE}]}  # true of nobody, and not known of some
# fmt: off
CHANGES = [
    # before                                               after                                                            opens
    (PLAIN,                                                PLAIN,                                                           False),
    (PLAIN,                                                policy(),                                                        True),
    (PLAIN,                                                policy(directive(FOREIGN, state="shadow")),                      True),
    (PLAIN,                                                policy(directive(FOREIGN, state="lifted")),                      True),
    (PLAIN,                                                policy(directive(FOREIGN, models=["claude-haiku-4-5"])),         True),
    (PLAIN,                                                policy(directive(FOREIGN, window={"from": AT + timedelta(1)})),  True),
    (PLAIN,                                                policy(directive(FOREIGN, order=None)),                          False),   # for now
    (PLAIN,                                                policy(directive({"everyone": True})),                           False),
    (PLAIN,                                                policy(directive(FOREIGN, **{"except": [{"org": {"any_of": ["acme"]}}]})), True),
    (PLAIN,                                                policy(holds={"h-1": hold(FABLE)}),                              False),
    (PLAIN,                                                policy(directive(FOREIGN), terms={"us-person": {"condition": US_PERSON["any"][0]}}), False),
    (policy(directive(FOREIGN), terms={"us-person": {"condition": US_PERSON["any"][0]}}), PLAIN,                            True),    # a term
    (PLAIN,                                                policy(directive(FOREIGN), orgs=ATTESTED),                       True),    # an attestation
    (policy(directive(FOREIGN), orgs=ATTESTED),            PLAIN,                                                           False),
    (policy(directive(FOREIGN, order=None)),               policy(),                                                        False),   # no order
    (policy(directive(FOREIGN, order=None), holds={"h-1": hold(FABLE, order="o-1")}), policy(directive(FOREIGN, order=None)), True),
    (policy(directive(FOREIGN, order=None), directive(FOREIGN)), policy(),                                                  True),    # behind one without
    (policy(directive({"everyone": True}, order=None), directive(NEVER)), policy(),                                         True),    # even where it is open
    (policy(holds={"h-1": hold(FABLE)}),                   policy(),                                                        False),
    (policy(directive({"nationality": {"any_of": ["group:g"]}}), groups={"g": {"countries": ["CN", "IR"]}}),
     policy(directive({"nationality": {"any_of": ["group:g"]}}), groups={"g": {"countries": ["CN"]}}),                      True),    # a group
    (policy(directive({"org_country": {"any_of": ["CN"]}}), orgs={"acme": {"country": "CN"}}),
     policy(directive({"org_country": {"any_of": ["CN"]}}), orgs={"acme": {"country": "US"}}),                              True),    # a company moves
    (policy(directive(FOREIGN, models=["family:fable"])),  policy(directive(FOREIGN, models=["family:opus"])),              True),
]
# fmt: on


@pytest.mark.parametrize(("before", "after", "opens"), CHANGES)
def test_what_needs_a_second_person(before, after, opens):
    assert (opened(compiled(before), compiled(after), FABLE) is not None) == opens


def test_a_policy_that_tells_too_many_apart_is_refused_and_not_guessed_at():
    each = [
        directive({name: {"any_of": [a + b]}})
        for name in ("nationality", "permanent_residence", "latest_nationality")
        for a, b in product("ABCDE", "FG")
    ]
    with pytest.raises(TooManyProfilesError, match=str(LIMIT)):
        reach(compiled(policy(*each)), FABLE)
