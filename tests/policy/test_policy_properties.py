"""What holds for every policy: denials only ever add up, and an explanation is the decision written down."""

from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_policies import NAMES, PATTERNS, PERSONAL, Maker, forgotten
from samples import AT, document, reread

from gateway.policy.caller import Caller, Kind
from gateway.policy.decision import Decision, Deny, Permit, Reason
from gateway.policy.document import Document, names_of
from gateway.policy.explain import explain
from gateway.policy.names import covers
from gateway.policy.snapshot import Asked, Snapshot
from gateway.policy.truth import both, either, negate

randoms = st.randoms(use_true_random=True)  # seeded by Hypothesis; policies are small, and a failure names its seed
makers = randoms.map(Maker)
asked_for = st.sampled_from(NAMES)
often = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ORGANISATIONAL = ("org", "org_country", "caller", "kind")


def compiled(policy: Document, at=AT) -> Snapshot:
    return Snapshot(policy, 1, at)


def permitted(decision: Decision) -> bool:
    return isinstance(decision, Permit)


def denied(decision: Decision) -> bool:
    return isinstance(decision, Deny)


@often
@given(makers, asked_for)
def test_the_order_of_directives_never_matters(maker, asked):
    made = maker.policy(holds=True)
    names = list(made.directives)
    maker.random.shuffle(names)
    shuffled = made.edited(directives={name: made.directives[name] for name in names})
    who = maker.request()
    assert compiled(shuffled).decide(who[0], asked, who[1]) == compiled(made).decide(who[0], asked, who[1])


@often
@given(makers, asked_for)
def test_a_directive_that_is_added_never_permits_more(maker, asked):
    made = maker.policy(holds=True)
    name = maker.random.choice(["a", "d-1x", "z"])
    more = made.edited(directives={**made.directives, name: maker.directive()})
    for who, user in (maker.request() for _ in range(4)):
        before, after = compiled(made).decide(who, asked, user), compiled(more).decide(who, asked, user)
        assert denied(after) or permitted(before)
        if denied(before) and before.reason not in (Reason.UNKNOWN_MODEL, Reason.MODEL_UNRESOLVED):
            assert after.let_finish <= before.let_finish, "nor grants more time"


@often
@given(makers, asked_for)
def test_an_exception_that_is_added_never_denies_more(maker, asked):
    made = maker.policy(directives={"d-1": maker.directive(), **maker.directives()})
    name = maker.random.choice(list(made.directives))
    fields = made.directives[name].model_dump(by_alias=True, exclude_unset=True)
    fields["except"] = [*fields["except"], maker.condition(1)]
    wider = made.edited(directives={**made.directives, name: fields})
    for who, user in (maker.request() for _ in range(4)):
        before, after = compiled(made).decide(who, asked, user), compiled(wider).decide(who, asked, user)
        assert permitted(after) or denied(before)


@often
@given(makers, asked_for, st.sampled_from(PERSONAL))
def test_what_becomes_unknown_never_permits_more(maker, asked, attribute):
    """Of a person. For a service of whom nothing is known an organisation may answer: that is what it attests."""
    snapshot = compiled(maker.policy())
    user = maker.person(known=0.9)
    service = maker.service()
    before, after = snapshot.decide(user, asked), snapshot.decide(forgotten(user, attribute), asked)
    assert denied(after) or after == before
    assert not (permitted(before) and denied(after)) or after.reason is not Reason.RESTRICTED, "only left open"
    before = snapshot.decide(service, asked, user)
    after = snapshot.decide(service, asked, forgotten(user, attribute))
    assert denied(after) or after == before


@often
@given(makers, asked_for)
def test_what_becomes_known_settles_a_question_and_never_turns_an_answer(maker, asked):
    snapshot = compiled(maker.policy())
    known = maker.person(known=1.0)
    before = known
    for attribute in maker.some(PERSONAL, 1, 4):
        before = forgotten(before, attribute)
    told, asked_again = snapshot.decide(before, asked), snapshot.decide(known, asked)
    if denied(told) and told.reason is Reason.RESTRICTED:
        assert denied(asked_again)
    if permitted(told):
        assert asked_again == told


@often
@given(makers, asked_for)
def test_time_alone_never_permits_more(maker, asked):
    directives = maker.directives(3)
    for directive in directives.values():
        begin = AT + timedelta(days=maker.random.randint(-1, 3))
        directive["window"] = {"from": begin, "until": begin + timedelta(days=1)}
    made = maker.policy(directives=directives)
    snapshot = compiled(made)
    requests = [maker.request() for _ in range(4)]
    before = [snapshot.decide(who, asked, user) for who, user in requests]
    while (moment := snapshot.next_boundary) is not None:
        just_before = compiled(made, moment - timedelta(microseconds=1))
        assert [just_before.decide(who, asked, user) for who, user in requests] == before, "nothing happens in between"
        snapshot = compiled(made, moment)
        after = [snapshot.decide(who, asked, user) for who, user in requests]
        assert all(denied(now) or permitted(then) for then, now in zip(before, after, strict=True))
        before = after
    timeless = Snapshot(made, 1)
    assert [timeless.decide(who, asked, user) for who, user in requests] == before


@often
@given(makers)
def test_the_spelling_of_a_name_never_changes_the_decision(maker):
    snapshot = compiled(maker.policy(holds=True))
    who, user = maker.request()
    for model in snapshot.document.models.values():
        for route in model.routes:
            spellings = [name.replace("*", "x") for provider, name in names_of(model) if provider == route.provider]
            decisions = {snapshot.decide(who, Asked(route.provider, (name,)), user) for name in spellings}
            assert len(decisions) == 1


@often
@given(makers)
def test_what_is_remembered_is_what_would_be_decided(maker):
    made = maker.policy(holds=True)
    snapshot = compiled(made)
    for _ in range(6):
        (who, user), asked = maker.request(), maker.random.choice(NAMES)
        assert snapshot.decide(who, asked, user) == compiled(made).decide(who, asked, user)


@often
@given(makers, asked_for)
def test_a_replica_decides_as_the_control_side_does(maker, asked):
    made = maker.policy(holds=True)
    who, user = maker.request()
    assert compiled(reread(made)).decide(who, asked, user) == compiled(made).decide(who, asked, user)


# ---------------------------------------------------------------- on behalf of


@often
@given(randoms, asked_for)
def test_what_is_forbidden_to_the_service_or_to_the_user_is_forbidden_to_both_together(random, asked):
    """Where directives look at the organisation, the caller and the kind: together they may what each may alone."""
    maker = Maker(random, ORGANISATIONAL, terms=())
    snapshot = compiled(maker.policy())
    service, user = maker.service(), maker.person()
    alone = [snapshot.decide(who, asked) for who in (service, user)]
    assert permitted(snapshot.decide(service, asked, user)) == all(map(permitted, alone))


@often
@given(makers, asked_for)
def test_an_end_user_is_never_permitted_more_than_without_the_service(maker, asked):
    snapshot = compiled(maker.policy())
    service, user = maker.service(), maker.person()
    assert denied(snapshot.decide(service, asked, user)) or permitted(snapshot.decide(user, asked))


@often
@given(makers, asked_for)
def test_the_persons_attributes_are_the_end_users(maker, asked):
    snapshot = compiled(maker.policy())
    service, user = maker.service(), maker.person()
    nobody = Caller(service.id, service.facts.without_attributes())
    assert snapshot.decide(service, asked, user) == snapshot.decide(nobody, asked, user)


@often
@given(makers, asked_for)
def test_a_service_that_must_name_its_users_gets_nothing_without(maker, asked):
    made = maker.policy(orgs={"acme": {"end_users": "required"}, "globex": {}})
    snapshot, service = compiled(made), maker.service()
    alone = snapshot.decide(service, asked)
    assert denied(alone) or service.facts.org != "acme"
    open_to = compiled(made.edited(orgs={"acme": {}, "globex": {}}))
    user = maker.person()
    assert snapshot.decide(service, asked, user) == open_to.decide(service, asked, user)


# ---------------------------------------------------------------- explained

TRUTH = {"yes": True, "no": False, "not known": None}


def written(node: dict[str, Any], attested: bool) -> bool | None:
    """What a written condition amounts to, by what it says of its parts."""
    own = TRUTH[node["holds"]]
    because = node.get("because", [])
    parts = [lambda _, part=part: written(part, attested) for part in because]
    words = node["condition"]
    if words.startswith("("):
        inner = [part["condition"] for part in because]
        joins = {f"({' or '.join(inner)})": either, f"({' and '.join(inner)})": both}
        assert own is joins[words](parts, None)
    elif words.startswith("not "):
        assert own is negate(parts[0](None))
    elif parts:
        open_to = attested and parts[0](None) is None  # a term that is left open, its organisation may answer
        assert open_to or own is parts[0](None)
    return own


def applies(written_rule: dict[str, Any], attested: bool) -> bool | None:
    """What a written directive amounts to."""
    verdicts = []
    for seen in written_rule["as"]:
        exempt = [written(exception, attested) for exception in seen["except"]]
        who, excepted = written(seen["who"], attested), negate(any_of(exempt))
        verdict = both([lambda _, who=who: who, lambda _, excepted=excepted: excepted], None)
        assert TRUTH[seen["applies"]] is verdict
        verdicts.append(verdict)
    assert TRUTH[written_rule["applies"]] is any_of(verdicts)
    return any_of(verdicts)


def any_of(values: list[bool | None]) -> bool | None:
    return True if True in values else None if None in values else False


def spoken(trace: list[dict[str, Any]], attested: bool) -> tuple[Any, ...] | None:
    """Why the trace says that a request is refused: the model, the reason, and the restriction."""
    for model in trace:
        if not model["known"]:
            return (model["name"], Reason.UNKNOWN_MODEL, None)
    for model in trace:
        if model["hold"]:
            return (model["model"], Reason.MODEL_OFFLINE, model["hold"])
    for model in trace:
        verdicts = [(rule["id"], applies(rule, attested)) for rule in model["directives"]]
        for sought, reason in ((True, Reason.RESTRICTED), (None, Reason.ATTRIBUTE_UNKNOWN)):
            for name, verdict in verdicts:
                if verdict is sought:
                    return (model["model"], reason, name)
    return None


@often
@given(makers, asked_for)
def test_an_explanation_is_the_decision_written_down(maker, asked):
    snapshot = compiled(maker.policy(holds=True))
    who, user = maker.request()
    explained = explain(snapshot, who, asked, user)
    decision = snapshot.decide(who, asked, user)
    assert explained.decision == decision
    attested = who.facts.kind is Kind.SERVICE and user is None and bool(snapshot.attested(who.facts.org))
    why = spoken(explained.trace, attested)
    if permitted(decision):
        assert why is None
    elif decision.reason is Reason.MODEL_UNRESOLVED:
        assert why is not None
    elif why[1] is Reason.UNKNOWN_MODEL and decision.reason is not Reason.UNKNOWN_MODEL:
        assert snapshot.resolve(asked.provider, why[0]) is None, "another spelling of a denied model"
    else:
        assert why == (decision.model, decision.reason, decision.restriction)


def test_a_pattern_covers_what_its_words_say():
    """The index of patterns against the definition of one."""
    snapshot = Snapshot(document(), 1)
    for pattern in (
        *PATTERNS,
        "claude-fable",
        "claude-fable-5x",
        "claude-?able-5",
        "gpt-5.4*",
        "family:*",
        "family:None",
        "tag:frontier",
        "tag:front*",
        "provider:openai",
        "provider:compatible",
        "*5*",
        "family:",
    ):
        expected = [
            model_id
            for model_id, model in sorted(snapshot.document.models.items())
            if covers(
                pattern, model_id, model.family, frozenset(model.tags), frozenset(r.provider for r in model.routes)
            )
        ]
        assert snapshot.covered([pattern]) == expected
