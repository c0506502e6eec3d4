"""Seeds: the catalog that comes along, the demo's people, and the first revision."""

import pytest
from control_harness import EVERYONE

from gateway.control.bootstrap import initial, new_approver
from gateway.control.countries import ISO_3166_1
from gateway.control.data import data_dir
from gateway.control.seeds import OperatorSeed, SeedError, load
from gateway.enforcement.store import AlreadyInitialisedError
from gateway.identity.keys import fingerprint
from gateway.identity.records import Role
from gateway.policy.caller import Caller, Facts
from gateway.policy.conditions import Compiler, Condition
from gateway.policy.document import digest, dump
from gateway.policy.reach import reach
from gateway.policy.snapshot import Snapshot

SEEDS = data_dir("seeds")
CATALOG, DEMO = SEEDS / "catalog.toml", SEEDS / "demo.toml"


@pytest.fixture(scope="module")
def snapshot():
    return Snapshot(load(CATALOG).document("portcullis"), 1)


@pytest.mark.parametrize(
    ("provider", "name", "model"),
    [
        ("anthropic", "claude-fable-5", "claude-fable-5"),
        ("anthropic", "claude-5-fable", "claude-fable-5"),
        ("anthropic", "claude-fable-5-latest", "claude-fable-5"),
        ("bedrock", "anthropic.claude-opus-4-5-20251101-v1:0", "claude-opus-4-5"),
        ("bedrock", "us.anthropic.claude-opus-4-5-20251101-v1:0", "claude-opus-4-5"),
        ("bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("openai", "gpt-5.4-mini-2026-03-17", "gpt-5.4-mini"),
        ("openai", "ft:gpt-5.4-mini:acme:support:abc123", "gpt-5.4-mini"),
        ("openai", "ft:gpt-5.4-mini-2026-03-17:acme::abc123:ckpt-step-90", "gpt-5.4-mini"),
        ("openai", "ft:gpt-5.4:acme:support:abc123", "gpt-5.4"),
        ("openai", "gpt-5.4-nano-0", "gpt-5.4-nano"),
        ("gemini", "gemini-flash-latest", "gemini-3-flash"),
        ("openai", "gpt-5.4-mini2", None),
        ("openai", "claude-fable-5", None),
        ("anthropic", "us.anthropic.claude-fable-5-20260324-v1:0", None),
    ],
)
def test_a_name_means_its_model_at_its_provider(snapshot, provider, name, model):
    assert snapshot.resolve(provider, name) == model


def test_every_name_of_the_catalog_means_one_model_everywhere(snapshot):
    meanings = {}
    for (_, name), model_id in snapshot._names._exact.items():
        assert meanings.setdefault(name, model_id) == model_id


def test_every_model_has_several_names(snapshot):
    for model in snapshot.document.models.values():
        assert len(model.aliases) >= 2


def test_embeddings_are_no_candidates_for_chat(snapshot):
    capabilities = {model_id: model.capability for model_id, model in snapshot.document.models.items()}
    assert {model_id for model_id, kind in capabilities.items() if kind == "embedding"} == {
        "text-embedding-3-small",
        "text-embedding-3-large",
    }


def test_controlled_models_go_stale_sooner(snapshot):
    assert {model for model, seconds in snapshot.max_stale.items() if seconds == 5} == {
        "claude-fable-5",
        "claude-mythos-5",
    }


def test_the_demo_knows_of_its_people_what_it_should():
    seeds = load(CATALOG, DEMO)
    known = {name: caller.attributes.model_dump(exclude_none=True) for name, caller in seeds.callers.items()}
    empty = frozenset()
    assert known["demo-alice"] == {"nationality": {"US"}}
    assert known["demo-bob"] == {"nationality": {"GB"}, "permanent_residence": {"US"}}
    assert known["demo-chen"] == {"nationality": {"CN"}, "permanent_residence": empty, "legal_status": empty}
    assert known["demo-dana"] == {}
    assert known["demo-erin"] == {"nationality": {"US", "FR"}}
    assert known["demo-farid"]["legal_status"] == {"us-protected-individual"}
    assert known["demo-hana"]["nationality"] == {"IN"}
    assert known["demo-hana"]["permanent_residence"] == known["demo-hana"]["legal_status"] == empty
    assert (seeds.callers["demo-acme"].kind, seeds.callers["demo-acme"].org) == ("service", "acme")
    assert all(caller.key.get_secret_value() == name for name, caller in seeds.callers.items())
    assert {name: set(operator.roles) for name, operator in seeds.operators.items()} == {
        "demo-operator": {"operator"},
        "demo-approver": {"approver"},
    }


def test_groups_and_terms_say_where_they_are_from():
    document = load(CATALOG, SEEDS / "groups.toml", SEEDS / "terms.toml").document("g")
    assert set(document.groups) == {"ear-a5", "ear-a6", "ear-d5", "ear-e1", "ear-e2", "eu"}
    assert {name: len(group.countries) for name, group in document.groups.items()} == {
        "ear-a5": 37,
        "ear-a6": 8,
        "ear-d5": 26,
        "ear-e1": 3,
        "ear-e2": 1,
        "eu": 27,
    }
    for group in document.groups.values():
        assert group.source.endswith("; for counsel to confirm")
        assert group.as_of
        assert len(set(group.countries)) == len(group.countries)
    assert document.terms["us-person"].source.startswith("15 CFR 772.1")
    assert document.changed["terms/us-person"] == 1


@pytest.mark.parametrize(
    ("caller", "truth"),
    [
        ("demo-alice", True),
        ("demo-bob", True),
        ("demo-chen", False),
        ("demo-dana", None),
        ("demo-erin", True),
        ("demo-farid", True),
        ("demo-hana", False),
        ("demo-acme", None),
    ],
)
def test_who_of_the_demo_is_a_us_person(caller, truth):
    seeds = load(CATALOG, SEEDS / "groups.toml", SEEDS / "terms.toml", DEMO)
    document = seeds.document("g")
    person = Compiler(document.groups, document.terms).compile(Condition(term="us-person"), "term")
    facts = Facts(seeds.callers[caller].kind, **dict(seeds.callers[caller].attributes))
    (subject,) = Snapshot(document, 1).subjects(Caller(caller, facts))
    assert person.evaluate(subject) is truth


@pytest.mark.parametrize("model", ["claude-fable-5", "claude-mythos-5"])
def test_under_the_seeded_order_no_foreigner_reaches_the_model(model):
    """By enumeration of everybody whom the seeds' policy can tell apart, the term as the seeds define it."""
    files = [SEEDS / f"{name}.toml" for name in ("catalog", "groups", "terms", "demo", "orders/us-persons-only")]
    snapshot = Snapshot(load(*files).document("g"), 1)
    found = reach(snapshot, model)
    assert found.permitted
    for profile in found.permitted:
        known = (profile.nationality, profile.permanent_residence, profile.legal_status)
        said = zip(known, ("US", "US", "us-protected-individual"), strict=True)
        assert any(values is not None and value in values for values, value in said)
    assert found.profiles > len(found.permitted)


def test_the_seeded_order_is_in_force_only_where_it_is_asked_for():
    assert not load(*sorted(SEEDS.glob("*.toml"))).directives


def test_a_seed_may_hold_directives_and_what_they_need(tmp_path):
    (tmp_path / "more.toml").write_text(
        "[orders.o-1]\nauthority = 'court'\nreference = '1/26'\n"
        "[orgs.acme]\ncountry = 'DE'\n"
        "[directives.d-1]\nmodels = ['family:fable']\norder = 'o-1'\nstate = 'in_force'\n"
        "who = { not = { term = 'us-person' } }\n"
    )
    document = load(CATALOG, SEEDS / "terms.toml", tmp_path / "more.toml").document("g")
    assert document.directives["d-1"].state == "in_force"
    assert document.orgs["acme"].country == "DE"
    with pytest.raises(SeedError, match="there is no term 'us-person'"):
        load(CATALOG, tmp_path / "more.toml").document("g")


def test_there_are_249_countries():
    assert len(ISO_3166_1) == 249
    assert not {"UK", "EU", "EL", "SU", "AN"} & ISO_3166_1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = 1", "models"),
        ("[model.x]", "model: Extra inputs"),
        ("[callers.x]\nkind = 'robot'", "callers.x.kind"),
        ("[callers.x]\nkind = 'person'\nattributes = { nationality = ['UK'] }", "callers.x.attributes.nationality"),
        ("[operators.x]\nroles = []\ntoken = 'secret-thing'", "operators.x.roles"),
        ("[operators.x]\nroles = ['viewer']\ntoken = 5", "operators.x.token"),
        ("[models.x", "seeds.toml"),
    ],
)
def test_a_mistake_in_a_seed_file_is_named_without_its_value(tmp_path, text, said):
    (tmp_path / "seeds.toml").write_text(text)
    with pytest.raises(SeedError) as caught:
        load(tmp_path / "seeds.toml")
    assert said in str(caught.value)
    assert "secret-thing" not in str(caught.value)


def test_a_missing_seed_file_is_named(tmp_path):
    with pytest.raises(SeedError, match=r"nothing\.toml"):
        load(tmp_path / "nothing.toml")


def test_a_catalog_with_an_ambiguous_name_is_refused(tmp_path):
    entry = "[models.{0}]\n[[models.{0}.routes]]\nprovider = 'p'\nnames = ['n']\n"
    (tmp_path / "a.toml").write_text(entry.format("a") + entry.format("b"))
    with pytest.raises(SeedError, match="already means"):
        load(tmp_path / "a.toml").document("g")


def test_a_later_file_wins_per_entry(tmp_path):
    (tmp_path / "mine.toml").write_text(
        "contact = 'ada@example.org'\n[operators.demo-operator]\nroles = ['viewer']\ntoken = 't'\n"
    )
    seeds = load(DEMO, tmp_path / "mine.toml")
    assert seeds.operators["demo-operator"].roles == {Role.VIEWER}
    assert "demo-approver" in seeds.operators
    assert seeds.document("g").contact == "ada@example.org"


async def test_the_first_revision_holds_everything(empty_gate):
    store = empty_gate.store
    current = await store.current()
    assert current.rev == 1
    assert digest(dump(current.document)) == current.doc
    caller = await store.records.caller_by_key(fingerprint("demo-chen"))
    assert (caller.id, len(caller.pseudonym), caller.changed) == ("demo-chen", 16, 1)
    assert set(await store.records.names("operator")) == set(EVERYONE)


async def test_a_policy_is_never_overwritten(empty_gate):
    operator, token = new_approver()
    assert token.startswith("po_")
    with pytest.raises(AlreadyInitialisedError):
        await initial(
            empty_gate.store, load(CATALOG).document("g"), {"ada": operator}, {}, pseudonym=lambda caller: caller
        )


async def test_a_gateway_starts_with_an_approver(empty_gate):
    operators = {"ada": OperatorSeed(roles=frozenset({Role.OPERATOR}), token="t")}
    with pytest.raises(SeedError, match="approver"):
        await initial(empty_gate.store, load(CATALOG).document("g"), operators, {}, pseudonym=lambda caller: caller)
