"""The decision, as one table; and what may never happen, as properties."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ACME, ALICE, AT, BOB, MODELS, SINCE, document, hold, model, order, reread

from gateway.policy import snapshot as snapshots
from gateway.policy.caller import Caller, Facts, Kind
from gateway.policy.decision import Deny, Permit, Reason, Scope
from gateway.policy.snapshot import Asked, Snapshot

ANTHROPIC = {"claude-fable-5", "claude-haiku-4-5", "claude-opus-4-5"}
OPENAI = {"gpt-5.4", "gpt-5.4-mini"}


def decide(names: str, *holds: Any, provider: str = "anthropic", capability: str = "chat", **fields: Any):
    """Ask for names, with blanks in between, under holds."""
    made = Snapshot(document(holds={f"h-{n}": one for n, one in enumerate(holds, 1)}, **fields), 7)
    return made.decide(ALICE, Asked(provider, tuple(names.split()), capability))


def told(decision: Permit | Deny) -> tuple[Any, ...]:
    """A decision in short."""
    if isinstance(decision, Permit):
        return ("permit", *decision.models)
    return (str(decision.reason), decision.model, decision.restriction)


FABLE = ("model_offline", "claude-fable-5", "h-1")
TABLE = [
    # asked for                              under holds on                     decision
    ("claude-fable-5", [], ("permit", "claude-fable-5")),
    ("claude-fable-5", ["claude-fable-5"], FABLE),
    ("claude-fable-5", ["claude-haiku-4-5"], ("permit", "claude-fable-5")),
    ("claude-fable-5", ["*"], FABLE),
    ("claude-fable-5", ["claude-*"], FABLE),
    ("claude-fable-5", ["claude-fable-?"], FABLE),
    ("claude-fable-5", ["gpt-*"], ("permit", "claude-fable-5")),
    ("claude-fable-5", ["family:fable"], FABLE),
    ("claude-fable-5", ["family:opus"], ("permit", "claude-fable-5")),
    ("claude-fable-5", ["tag:controlled"], FABLE),
    ("claude-opus-4-5", ["tag:controlled"], ("permit", "claude-opus-4-5")),
    ("claude-opus-4-5", ["tag:frontier"], ("model_offline", "claude-opus-4-5", "h-1")),
    ("claude-fable-5", ["provider:anthropic"], FABLE),
    ("claude-fable-5", ["provider:openai"], ("permit", "claude-fable-5")),
    ("claude-fable-5", ["no-such-model"], ("permit", "claude-fable-5")),
    # every name it has, and every other spelling of one
    ("claude-fable-5-20260401", [], ("permit", "claude-fable-5")),
    ("claude-fable-latest", [], ("permit", "claude-fable-5")),
    ("claude-fable-5-20260401", ["claude-fable-5"], FABLE),
    ("claude-fable-latest", ["claude-fable-5"], FABLE),
    ("Claude-Fable-5", ["claude-fable-5"], FABLE),
    ("claude-fable-5[1m]", ["claude-fable-5"], FABLE),
    ("claude_fable_5", ["claude-fable-5"], FABLE),
    ("claude.fable.5", ["claude-fable-5"], FABLE),
    ("anthropic/claude-fable-5", ["claude-fable-5"], FABLE),
    ("us.anthropic.claude-fable-5", ["claude-fable-5"], FABLE),
    ("claude-fable-5@20260401", ["claude-fable-5"], FABLE),
    # but no spelling except its own permits
    ("Claude-Fable-5", [], ("unknown_model", "Claude-Fable-5", None)),
    ("claude-fable-5[1m]", [], ("unknown_model", "claude-fable-5[1m]", None)),
    ("anthropic/claude-fable-5", ["claude-haiku-4-5"], ("unknown_model", "anthropic/claude-fable-5", None)),
    # names of other providers, and of nobody
    ("gpt-5.4", [], ("unknown_model", "gpt-5.4", None)),
    ("gpt-5.4", ["gpt-5.4"], ("model_offline", "gpt-5.4", "h-1")),
    ("unheard-of", [], ("unknown_model", "unheard-of", None)),
    ("unheard-of", ["*"], ("unknown_model", "unheard-of", None)),
    # several names: all must be permitted
    ("claude-opus-4-5 claude-haiku-4-5", [], ("permit", "claude-opus-4-5", "claude-haiku-4-5")),
    ("claude-opus-4-5 claude-fable-5", ["claude-fable-5"], FABLE),
    ("claude-fable-5 claude-opus-4-5", ["claude-fable-5"], FABLE),
    ("claude-opus-4-5 unheard-of", [], ("unknown_model", "unheard-of", None)),
    ("claude-fable-5 unheard-of", ["claude-fable-5"], ("unknown_model", "unheard-of", None)),
    ("unheard-of claude-fable-5", ["claude-fable-5"], ("unknown_model", "unheard-of", None)),
    ("claude-fable-5 claude-fable-latest", [], ("permit", "claude-fable-5", "claude-fable-5")),
]


@pytest.mark.parametrize(("names", "patterns", "expected"), TABLE)
def test_the_decision(names, patterns, expected):
    assert told(decide(names, *(hold(pattern) for pattern in patterns))) == expected


def test_a_decision_says_everything_that_a_refusal_needs():
    assert decide("claude-fable-latest", hold("claude-fable-5", public_message="Off.", note="secret")) == Deny(
        Reason.MODEL_OFFLINE, 7, model="claude-fable-5", restriction="h-1", scope=Scope.EVERYONE, since=SINCE, message="Off.",
    )  # fmt: skip
    assert decide("claude-fable-5 claude-opus-4-5") == Permit(("claude-fable-5", "claude-opus-4-5"), 7, max_stale=5.0)
    assert decide("unheard-of").scope is Scope.EVERYONE


@pytest.mark.parametrize("caller", [ALICE, BOB, ACME])
def test_a_hold_is_unconditional(caller):
    made = Snapshot(document(holds={"h-1": hold("claude-fable-5")}), 7)
    for behalf in (None, ALICE, BOB):
        assert told(made.decide(caller, Asked("anthropic", ("claude-fable-5",)), behalf)) == FABLE


@pytest.mark.parametrize(
    ("names", "provider", "expected"),
    [
        ("ft:gpt-5.4:org:name:id", "openai", ("model_offline", "gpt-5.4", "h-1")),
        ("ft:gpt-5.4:", "openai", ("model_offline", "gpt-5.4", "h-1")),
        ("ft:gpt-5.4-mini:org::id", "openai", ("unknown_model", "ft:gpt-5.4-mini:org::id", None)),
        ("xft:gpt-5.4:org", "openai", ("unknown_model", "xft:gpt-5.4:org", None)),
        ("ft:gpt-5x4:org", "openai", ("unknown_model", "ft:gpt-5x4:org", None)),
        ("ft:gpt-5.4:org", "compatible", ("model_offline", "gpt-5.4", "h-1")),
        ("ft:gpt-5.4-2099-12-31:org", "openai", ("model_offline", "gpt-5.4", "h-1")),
        ("gpt-5.4-2099-12-31", "openai", ("model_offline", "gpt-5.4", "h-1")),
        ("auto", "openai", ("model_unresolved", None, "h-1")),
        ("auto", "anthropic", ("unknown_model", "auto", None)),
        ("arn:aws:bedrock:us-east-1:1:prompt/x", "openai", ("model_unresolved", None, "h-1")),
        ("arn:aws:bedrock:us-east-1::foundation-model/gpt-5.4", "openai", ("model_offline", "gpt-5.4", "h-1")),
        ("arn:aws:bedrock:us-east-1::foundation-model/gpt-5.4-mini", "openai", ("permit", "gpt-5.4-mini")),
        ("arn:aws:bedrock:us-east-1:1:provisioned-model/gpt-5.4-mini", "openai", ("model_unresolved", None, "h-1")),
        ("openai/gpt-5.4", "compatible", ("model_offline", "gpt-5.4", "h-1")),
        ("gpt-5.4", "compatible", ("model_offline", "gpt-5.4", "h-1")),
    ],
)
def test_names_with_a_part_that_varies(names, provider, expected):
    assert told(decide(names, hold("gpt-5.4"), provider=provider)) == expected


def test_a_fine_tune_goes_with_its_base():
    assert told(decide("ft:gpt-5.4:org::id", provider="openai")) == ("permit", "gpt-5.4")


# ---------------------------------------------------------------- several holds


def test_a_model_is_offline_while_any_hold_stands():
    first, second = hold("claude-fable-5"), hold("family:fable")
    assert told(decide("claude-fable-5", first, second)) == FABLE
    assert told(decide("claude-fable-5", second)) == FABLE, "one is released, the other stands"


def test_an_order_speaks_before_what_has_none():
    orders = {"o-1": order(), "o-2": order()}
    free, ordered = hold("claude-fable-5"), hold("claude-fable-5", order="o-1")
    decision = decide("claude-fable-5", free, ordered, hold("claude-fable-5", order="o-2"), orders=orders)
    assert (decision.restriction, decision.order) == ("h-2", "o-1")


def test_else_the_lowest_id_speaks():
    assert decide("claude-fable-5", hold("*"), hold("claude-fable-5"), hold("*")).restriction == "h-1"


@pytest.mark.parametrize(
    ("graces", "expected"), [([60], 60), ([60, 30], 30), ([30, 60], 30), ([60, 0, 30], 0), ([0, 60], 0), ([0], 0)]
)
def test_the_shortest_grace_counts(graces, expected):
    holds = [hold("claude-fable-5", in_flight={"let_finish": grace}) for grace in graces]
    decision = decide("claude-fable-5", *holds)
    assert (decision.let_finish, decision.restriction) == (expected, "h-1")


def test_under_an_order_too():
    ordered = hold("claude-fable-5", order="o-1", in_flight={"let_finish": 60})
    decision = decide("claude-fable-5", hold("claude-fable-5"), ordered, orders={"o-1": order()})
    assert (decision.restriction, decision.order, decision.let_finish) == ("h-2", "o-1", 0)


def test_of_several_models_the_one_that_must_be_cut_first_counts():
    slow, fast = hold("claude-opus-4-5", in_flight={"let_finish": 600}), hold("claude-fable-5")
    for names in ("claude-opus-4-5 claude-fable-5", "claude-fable-5 claude-opus-4-5"):
        assert decide(names, slow, fast).let_finish == 0
    assert decide("claude-opus-4-5 claude-haiku-4-5", slow, fast).let_finish == 600


def test_a_directive_that_cuts_at_once_is_not_slowed_by_a_hold():
    directive = {
        "models": ["claude-fable-5"], "who": {"everyone": True}, "state": "in_force", "by": "op", "at": hold("*").at,
    }  # fmt: skip
    slow = hold("claude-fable-5", in_flight={"let_finish": 600})
    assert decide("claude-fable-5", slow, directives={"d-1": directive}).let_finish == 0


# ---------------------------------------------------------------- a request that names no model


@pytest.mark.parametrize(
    ("patterns", "provider", "capability", "reason"),
    [
        ([], "openai", "chat", None),
        (["gpt-5.4-mini"], "openai", "chat", "model_unresolved"),
        (["family:gpt"], "openai", "chat", "model_unresolved"),
        (["claude-fable-5"], "openai", "chat", None),
        (["text-embedding-3-small"], "openai", "chat", None),
        (["text-embedding-3-small"], "openai", "embedding", "model_unresolved"),
        (["gpt-5.4"], "openai", "embedding", None),
        (["gpt-5.4"], "compatible", "chat", "model_unresolved"),
        (["gpt-5.4-mini"], "compatible", "chat", None),
        (["*"], "nowhere", "chat", None),
    ],
)
def test_it_is_denied_if_any_model_that_it_could_mean_is(patterns, provider, capability, reason):
    decision = decide("", *(hold(pattern) for pattern in patterns), provider=provider, capability=capability)
    assert (None if isinstance(decision, Permit) else str(decision.reason)) == reason


def also(*capabilities: str, names: tuple[str, ...] = ("gpt-5.4-mini",), held: str = "claude-fable-5") -> Any:
    """The decision about a request that may invoke more than it names."""
    made = Snapshot(document(holds={"h-1": hold(held)}), 7)
    return made.decide(ALICE, Asked("openai", names, also=capabilities))


@pytest.mark.parametrize(
    ("held", "capabilities", "reason"),
    [
        ("claude-fable-5", ("chat",), None),
        ("gpt-5.4", ("chat",), "model_unresolved"),
        ("gpt-5.4", ("embedding",), None),
        ("gpt-5.4", ("embedding", "chat"), "model_unresolved"),
        ("text-embedding-3-small", ("*",), "model_unresolved"),
        ("gpt-5.4-mini", ("embedding",), "model_offline"),
        ("claude-fable-5", ("image",), "model_unresolved"),
    ],
)
def test_what_may_run_beside_the_named_models_is_looked_at_too(held, capabilities, reason):
    for names in (("gpt-5.4-mini",), ()):
        decision = also(*capabilities, names=names, held=held)
        wanted = None if (reason == "model_offline" and not names) else reason
        assert (None if isinstance(decision, Permit) else str(decision.reason)) == wanted


def test_a_permit_lasts_as_long_as_that_of_any_model_that_may_run():
    made = Snapshot(document(max_stale={"default": 9.0}, models=aged("gpt-5.4", 2.0)), 7)
    assert made.decide(ALICE, Asked("openai", ("gpt-5.4-mini",))).max_stale == 9.0
    assert made.decide(ALICE, Asked("openai", ("gpt-5.4-mini",), also=("chat",))).max_stale == 2.0


def aged(model_id: str, seconds: float) -> dict[str, Any]:
    return {**MODELS, model_id: {**MODELS[model_id], "max_stale": seconds}}


def test_its_denial_is_that_of_the_gravest():
    orders = {"o-1": order()}
    free = hold("gpt-5.4", in_flight={"let_finish": 5})
    ordered = hold("gpt-5.4-mini", order="o-1", in_flight={"let_finish": 60})
    decision = decide("", free, ordered, provider="openai", orders=orders)
    assert (decision.model, decision.restriction, decision.order, decision.since) == (None, "h-2", "o-1", SINCE)
    assert decision.let_finish == 5
    assert "Name the model" in decision.message


def test_its_permit_is_as_strict_as_the_strictest_candidate():
    assert decide("") == Permit((), 7, max_stale=5.0)
    assert decide("", provider="openai") == Permit((), 7, max_stale=15.0)
    assert decide("", provider="nowhere") == Permit((), 7, max_stale=5.0)


def test_looking_is_permitted():
    made = Snapshot(document(holds={"h": hold("*")}, max_stale={"default": 9}), 7)
    assert made.look() == Permit((), 7, max_stale=9.0)


# ---------------------------------------------------------------- catalog


def test_a_pattern_covers_a_model_that_is_added_later():
    holds = {"h-1": hold("family:fable")}
    before = Snapshot(document(holds=holds), 1)
    asked = Asked("anthropic", ("claude-fable-6",))
    assert before.decide(ALICE, asked).reason is Reason.UNKNOWN_MODEL
    models = MODELS | {"claude-fable-6": model("anthropic", "claude-fable-6", family="fable")}
    assert Snapshot(document(holds=holds, models=models), 2).decide(ALICE, asked).reason is Reason.MODEL_OFFLINE


def test_of_two_that_look_alike_the_one_that_is_offline_answers():
    models = {"a": model("p", "some-model"), "b": model("p", "some.model")}
    for closed, name in (("a", "Some-Model"), ("b", "Some-Model")):
        made = Snapshot(document(models=models, holds={"h": hold(closed)}), 1)
        assert told(made.decide(ALICE, Asked("p", (name,)))) == ("model_offline", closed, "h")
        other = "some.model" if closed == "a" else "some-model"
        assert isinstance(made.decide(ALICE, Asked("p", (other,))), Permit), "its exact name is its own"


def test_an_id_that_is_no_name_permits_nothing_but_denies():
    models = {"internal-id": model("p", "public-name")}
    free, closed = document(models=models), document(models=models, holds={"h": hold("*")})
    assert Snapshot(free, 1).decide(ALICE, Asked("p", ("internal-id",))).reason is Reason.UNKNOWN_MODEL
    assert Snapshot(closed, 1).decide(ALICE, Asked("p", ("internal-id",))).reason is Reason.MODEL_OFFLINE


def test_what_is_covered_today():
    made = Snapshot(document(), 1)
    assert made.covered(["family:gpt", "claude-fable-5", "nothing"]) == ["claude-fable-5", "gpt-5.4", "gpt-5.4-mini"]
    assert made.covered(["*"]) == sorted(MODELS)


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("claude-fable-5", "claude-fable-5"),
        ("claude-fable-latest", "claude-fable-5"),
        ("openai/gpt-5.4", "gpt-5.4"),
        ("Claude-Fable-5", None),
        ("nobody", None),
    ],
)
def test_the_model_that_an_operator_means(name, model_id):
    assert Snapshot(document(), 1).find(name) == model_id


@pytest.mark.parametrize(
    ("patterns", "provider", "refused", "names"),
    [
        ([], "anthropic", "claude-fable-5", ["claude-haiku-4-5", "claude-opus-4-5"]),
        (["claude-opus-4-5"], "anthropic", "claude-fable-5", ["claude-haiku-4-5"]),
        (["*"], "anthropic", "claude-fable-5", []),
        ([], "openai", "gpt-5.4-mini", ["gpt-5.4"]),
        ([], "openai", "claude-fable-5", ["gpt-5.4", "gpt-5.4-mini"]),
        ([], "openai", None, ["gpt-5.4", "gpt-5.4-mini"]),
        ([], "openai", "text-embedding-3-small", []),
        ([], "compatible", "claude-fable-5", ["openai/gpt-5.4"]),
        ([], "nowhere", "claude-fable-5", []),
    ],
)
def test_what_may_be_used_instead(patterns, provider, refused, names):
    made = Snapshot(document(holds={f"h-{n}": hold(pattern) for n, pattern in enumerate(patterns)}), 1)
    assert made.alternatives(ALICE, provider, refused) == names


def test_with_an_end_user_it_is_what_may_be_used_for_them():
    """Each answer is remembered for its own end user."""
    chinese = {"nationality": {"any_of": ["CN"]}}
    closed = {"models": ["claude-opus-4-5"], "who": chinese, "state": "in_force", "by": "op", "at": AT}
    made = Snapshot(document(directives={"d-1": closed}), 1, AT)
    service = Caller("svc", Facts(Kind.SERVICE))
    for _ in range(2):
        for country, names in (("CN", ["claude-haiku-4-5"]), ("FR", ["claude-haiku-4-5", "claude-opus-4-5"])):
            user = Caller("user", Facts(Kind.PERSON, nationality=frozenset({country})))
            told = made.alternatives(service, "anthropic", "claude-fable-5", on_behalf_of=user)
            assert sorted(told) == names
    assert made.alternatives(service, "anthropic", "claude-fable-5") == ["claude-haiku-4-5"], "nobody is known"


def test_the_family_comes_first_and_there_are_five_at_most():
    models = {f"m{n}": model("p", f"m{n}", family="x" if n > 6 else "y") for n in range(10)}
    assert Snapshot(document(models=models), 1).alternatives(ALICE, "p", "m9") == ["m7", "m8", "m0", "m1", "m2"]


# ---------------------------------------------------------------- memory


def test_the_same_question_is_answered_from_memory():
    made = Snapshot(document(), 1)
    asked = Asked("anthropic", ("claude-fable-5",))
    assert made.decide(ALICE, asked) is made.decide(ALICE, asked)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(snapshots, "MEMO_LIMIT", 100)
    made = Snapshot(document(), 1)
    for number in range(1000):
        decision = made.decide(ALICE, Asked("anthropic", (f"made-up-{number}",)))
        assert decision.model == f"made-up-{number}"
        assert len(made._memo) <= 100


# ---------------------------------------------------------------- properties

patterns = st.sampled_from(
    ["*", "claude-*", "*-5", "gpt-5.4", "claude-fable-5", "family:fable", "family:*", "tag:frontier", "tag:controlled",
     "provider:openai", "provider:*", "nothing-*", "?laude-*"]
)  # fmt: skip
holds = st.dictionaries(
    st.sampled_from([f"h-{n}" for n in range(6)]),
    st.builds(
        lambda models, order_id, grace: hold(*models, order=order_id, in_flight={"let_finish": grace}),
        st.lists(patterns, min_size=1, max_size=3),
        st.sampled_from([None, "o-1"]),
        st.sampled_from([0, 10, 60]),
    ),
    max_size=4,
)
every_name = sorted({name for made in document().models.values() for route in made.routes for name in route.names})
names = st.lists(
    st.sampled_from(
        [*every_name, "claude-fable-latest", "ft:gpt-5.4:x", "Claude-Fable-5", "claude_opus_4_5[1m]", "nobody"]
    ),
    max_size=3,
)
asked_for = st.builds(
    lambda provider, asked, capability: Asked(provider, tuple(asked), capability),
    st.sampled_from(["anthropic", "openai", "compatible", "nowhere"]),
    names,
    st.sampled_from(["chat", "embedding"]),
)


def under(standing: dict[str, Any]) -> Snapshot:
    return Snapshot(document(holds=standing, orders={"o-1": order()}), 1)


@settings(max_examples=100, deadline=None)
@given(holds, holds, asked_for)
def test_another_hold_never_permits_more(some, others, asked):
    before, after = under(some), under(others | some)
    decision = after.decide(ALICE, asked)
    if isinstance(decision, Permit):
        assert before.decide(ALICE, asked) == decision
    else:
        denied = before.decide(ALICE, asked)
        if isinstance(denied, Deny) and denied.reason is not Reason.UNKNOWN_MODEL:
            assert decision.let_finish <= denied.let_finish, "and never grants more time"


@settings(max_examples=100, deadline=None)
@given(holds, asked_for, asked_for)
def test_asking_for_more_never_permits_more(standing, some, others):
    made = under(standing)
    both = Asked(some.provider, some.names + others.names, some.capability)
    if some.names and isinstance(made.decide(ALICE, both), Permit):
        assert isinstance(made.decide(ALICE, some), Permit)


@settings(max_examples=100, deadline=None)
@given(holds)
def test_the_alias_never_changes_the_decision(standing):
    made = under(standing)
    for model_id, entry in made.document.models.items():
        for route in entry.routes:
            spellings = [name.replace("*", "x") for name in (*route.names, *entry.aliases)]
            decisions = {made.decide(BOB, Asked(route.provider, (name,))) for name in spellings}
            assert len(decisions) == 1
            (decision,) = decisions
            assert (model_id in made.offline) == isinstance(decision, Deny)


@settings(max_examples=100, deadline=None)
@given(holds, asked_for)
def test_a_permit_never_names_a_model_that_is_offline(standing, asked):
    made = under(standing)
    decision = made.decide(ALICE, asked)
    if isinstance(decision, Permit):
        assert not set(decision.models) & set(made.offline)
        assert len(decision.models) == len(asked.names)
        if not asked.names:
            assert not set(made.candidates(asked)) & set(made.offline)


@settings(max_examples=100, deadline=None)
@given(holds, asked_for)
def test_a_replica_decides_as_the_control_side_does(standing, asked):
    made = under(standing)
    again = Snapshot(reread(made.document), 1)
    assert again.decide(ALICE, asked) == made.decide(ALICE, asked)


# ---------------------------------------------------------------------------------------------------- only callers


def test_a_revision_that_edits_only_callers_is_the_same_policy_under_another_number():
    before = Snapshot(document(holds={"h-1": hold("claude-fable-5")}), 7, AT)
    asked = [Asked("anthropic", (name,), "chat") for name in ("claude-fable-5", "claude-opus-4-5", "nobody's")]
    decided = [before.decide(ALICE, one) for one in asked]
    after = before.renumbered(8)
    assert (before.revision, after.revision) == (7, 8)
    assert [told(after.decide(ALICE, one)) for one in asked] == [told(decision) for decision in decided]
    assert [after.decide(ALICE, one).revision for one in asked] == [8, 8, 8]
    for field in ("document", "offline", "max_stale", "longest_stale", "next_boundary"):
        assert getattr(after, field) == getattr(before, field), field
    assert after.find("claude-fable-latest") == before.find("claude-fable-latest")
