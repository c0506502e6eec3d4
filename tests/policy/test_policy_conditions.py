"""Conditions: what a test says of a set that is known, or is not; and what is refused, with the path of the mistake."""

from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError
from samples import document

from gateway.policy.caller import Facts, Kind, Subject, subject
from gateway.policy.conditions import MAX_DEPTH, MAX_PARTS, Compiler, Condition, Group, Term, is_country
from gateway.policy.snapshot import Snapshot
from gateway.policy.truth import both, either, negate

CN = {"nationality": {"any_of": ["CN"]}}
US = {"nationality": {"any_of": ["US"]}}
GREEN_CARD = {"permanent_residence": {"any_of": ["US"]}}
EVERYONE = {"everyone": True}
YES, NO, UNKNOWN = True, False, None


def compiled(condition: dict[str, Any], groups: dict[str, Any] | None = None, terms: dict[str, Any] | None = None):
    compiler = Compiler(
        {name: Group.model_validate({"countries": countries}) for name, countries in (groups or {}).items()},
        {name: Term.model_validate({"condition": inner}) for name, inner in (terms or {}).items()},
    )
    return compiler.compile(Condition.model_validate(condition), "here")


def person(nationality: str | None = None, **known: str) -> Subject:
    """Somebody of whom the sets are known that are given; blanks in between, and a dash for none."""
    given = {} if nationality is None else {"nationality": nationality}
    sets = {name: frozenset(text.replace("-", "").split()) for name, text in (given | known).items()}
    return subject(Facts(Kind.PERSON, **sets), Facts(Kind.PERSON), "someone", None, {})


# ---------------------------------------------------------------- three truth values


def test_truth_is_kleenes():
    for values in product((YES, NO, UNKNOWN), repeat=3):
        tests = [lambda _, value=value: value for value in values]
        assert both(tests, None) is (NO if NO in values else UNKNOWN if UNKNOWN in values else YES)
        assert either(tests, None) is (YES if YES in values else UNKNOWN if UNKNOWN in values else NO)
    assert [negate(value) for value in (YES, NO, UNKNOWN)] == [NO, YES, UNKNOWN]
    assert both([], None) is YES
    assert either([], None) is NO


# fmt: off
TESTS = [
    # operator     values      a known set:  CN    US    CN US  none   not known
    ("any_of",     "CN",                    (YES,  NO,   YES,   NO,    UNKNOWN)),
    ("any_of",     "CN IR",                 (YES,  NO,   YES,   NO,    UNKNOWN)),
    ("all_of",     "CN",                    (YES,  NO,   YES,   NO,    UNKNOWN)),
    ("all_of",     "CN US",                 (NO,   NO,   YES,   NO,    UNKNOWN)),
    ("none_of",    "CN",                    (NO,   YES,  NO,    YES,   UNKNOWN)),
    ("none_of",    "CN US",                 (NO,   NO,   NO,    YES,   UNKNOWN)),
    ("subset_of",  "CN",                    (YES,  NO,   NO,    YES,   UNKNOWN)),
    ("subset_of",  "CN US",                 (YES,  YES,  YES,   YES,   UNKNOWN)),
    ("any_of",     "group:d5",              (YES,  NO,   YES,   NO,    UNKNOWN)),
    ("all_of",     "group:d5",              (NO,   NO,   NO,    NO,    UNKNOWN)),
    ("none_of",    "group:d5",              (NO,   YES,  NO,    YES,   UNKNOWN)),
    ("subset_of",  "group:d5 US",           (YES,  YES,  YES,   YES,   UNKNOWN)),
    ("any_of",     "group:wider",           (YES,  NO,   YES,   NO,    UNKNOWN)),   # a group in a group
]
# fmt: on


@pytest.mark.parametrize(("operator", "values", "expected"), TESTS)
def test_a_test_of_one_attribute(operator, values, expected):
    node = compiled(
        {"permanent_residence": {operator: values.split()}}, {"d5": ["CN", "IR"], "wider": ["group:d5", "KP"]}
    )
    sets = ("CN", "US", "CN US", "-")
    found = tuple(node.evaluate(person(permanent_residence=known)) for known in sets)
    assert (*found, node.evaluate(person())) == expected


# fmt: off
FORMS = [
    # condition                               a CN     CN, with a    nothing    US
    #                                         national green card    known
    (EVERYONE,                               (YES,     YES,          YES,       YES)),
    ({"not": EVERYONE},                      (NO,      NO,           NO,        NO)),
    (CN,                                     (YES,     YES,          UNKNOWN,   NO)),
    ({"not": CN},                            (NO,      NO,           UNKNOWN,   YES)),
    ({"not": {"not": CN}},                   (YES,     YES,          UNKNOWN,   NO)),
    ({"all": [CN, GREEN_CARD]},              (UNKNOWN, YES,          UNKNOWN,   NO)),
    ({"any": [CN, GREEN_CARD]},              (YES,     YES,          UNKNOWN,   UNKNOWN)),
    ({"any": [US, GREEN_CARD]},              (UNKNOWN, YES,          UNKNOWN,   YES)),
    ({"all": [CN, {"not": CN}]},             (NO,      NO,           UNKNOWN,   NO)),      # nobody, yet not settled
    ({"any": [CN, {"not": CN}]},             (YES,     YES,          UNKNOWN,   YES)),
    ({"all": [CN, EVERYONE]},                (YES,     YES,          UNKNOWN,   NO)),
    ({"any": [CN, EVERYONE]},                (YES,     YES,          YES,       YES)),
    ({"all": [CN, {"not": EVERYONE}]},       (NO,      NO,           NO,        NO)),
    ({"term": "resident"},                   (UNKNOWN, YES,          UNKNOWN,   UNKNOWN)),
    ({"not": {"term": "resident"}},          (UNKNOWN, NO,           UNKNOWN,   UNKNOWN)),
    ({"term": "foreign-resident"},           (UNKNOWN, YES,          UNKNOWN,   NO)),      # a term in a term
]
# fmt: on


@pytest.mark.parametrize(("condition", "expected"), FORMS)
def test_a_condition(condition, expected):
    terms = {
        "foreign-resident": {"all": [{"term": "resident"}, {"not": US}]},
        "resident": GREEN_CARD,
    }
    node = compiled(condition, terms=terms)
    people = (person("CN"), person("CN", permanent_residence="US"), person(), person("US"))
    assert tuple(node.evaluate(someone) for someone in people) == expected


# fmt: off
LATEST = [
    # nationality   latest      has CN as the latest?
    ("CN",          None,       YES),       # who has one has it as the latest
    ("US",          None,       NO),
    ("CN US",       None,       UNKNOWN),
    ("CN US",       "US",       NO),
    (None,          "CN",       YES),
    (None,          None,       UNKNOWN),
]
# fmt: on


@pytest.mark.parametrize(("nationality", "latest", "expected"), LATEST)
def test_the_latest_nationality(nationality, latest, expected):
    someone = person(nationality, **({} if latest is None else {"latest_nationality": latest}))
    assert compiled({"latest_nationality": {"any_of": ["CN"]}}).evaluate(someone) is expected


def test_equal_conditions_are_one_node():
    compiler = Compiler({}, {"t": Term.model_validate({"condition": US})})
    first, again = (
        compiler.compile(Condition.model_validate({"all": [CN, {"not": {"term": "t"}}]}), "here") for _ in range(2)
    )
    assert first is again
    assert first is not compiler.compile(Condition.model_validate({"any": [CN, {"not": {"term": "t"}}]}), "here")


# ---------------------------------------------------------------- an organisation's word


# fmt: off
ATTESTED = [
    # what is known   what the organisation says   is it a us-person?
    ("US",            None,                        YES),
    ("US",            NO,                          YES),       # what is known of somebody is not overruled
    ("CN",            YES,                         NO),        # nor here: known to have no green card either
    (None,            YES,                         YES),
    (None,            NO,                          NO),
    (None,            None,                        UNKNOWN),
]
# fmt: on


@pytest.mark.parametrize(("nationality", "word", "expected"), ATTESTED)
def test_an_organisation_answers_what_is_not_known(nationality, word, expected):
    sets = {} if nationality is None else {"nationality": frozenset({nationality})}
    if nationality == "CN":
        sets |= {"permanent_residence": frozenset()}
    words = {} if word is None else {"us-person": word}
    someone = subject(Facts(Kind.SERVICE, **sets), Facts(Kind.SERVICE), "someone", None, words)
    terms = {"us-person": {"any": [US, GREEN_CARD]}}
    assert compiled({"term": "us-person"}, terms=terms).evaluate(someone) is expected


# ---------------------------------------------------------------- mistakes


def nested(times: int, condition: dict[str, Any], form: str = "not") -> dict[str, Any]:
    for _ in range(times):
        condition = {"not": condition} if form == "not" else {form: [condition]}
    return condition


def term(condition: dict[str, Any]) -> dict[str, Any]:
    return {"condition": condition}


def doubling(times: int) -> dict[str, Any]:
    steps = {f"t{i}": term({"all": [{"term": f"t{i - 1}"}] * 2}) for i in range(1, times)}
    return {"t0": term(CN), **steps}


DIRECTIVE = {"models": ["*"], "by": "op", "at": "2026-06-12T21:21:00Z"}


def directive(who: Any, *exceptions: Any, **fields: Any) -> dict[str, Any]:
    return {"directives": {"d": {**DIRECTIVE, "who": who, "except": list(exceptions), **fields}}}


ATTESTATION = {"terms": {"t": True}, "signer": "s", "evidence": "e", "expires": "2026-06-12T21:21:00Z"}
# fmt: off
MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    # fields                                                                    where                                    what
    ({"groups": {"g": {"countries": ["CHN"]}}},                                 "groups.g.countries[0]",                 "'CHN' is no country"),
    ({"groups": {"g": {"countries": ["CN", "cn"]}}},                            "groups.g.countries[1]",                 "'cn' is no country"),
    ({"groups": {"g": {"countries": []}}},                                      "groups.g.countries",                    "at least 1 item"),
    ({"groups": {"g": {"countries": ["group:h"]}}},                             "groups.g.countries[0]",                 "there is no group 'h'"),
    ({"groups": {"g": {"countries": ["group:g"]}}},                             "groups.g",                              "leads back to itself: g → g"),
    ({"groups": {"g": {"countries": ["group:h"]}, "h": {"countries": ["CN", "group:g"]}}}, "groups.",                    "leads back to itself"),
    ({"terms": {"t": term({"term": "u"})}},                                     "terms.t.condition.term",                "there is no term 'u'"),
    ({"terms": {"t": term({"not": {"term": "t"}})}},                            "terms.t",                               "leads back to itself: t → t"),
    ({"terms": {"t": term({"term": "u"}), "u": term({"any": [CN, {"term": "t"}]})}}, "terms.",                           "leads back to itself"),
    ({"terms": {"t": term({"nationality": {"any_of": ["China"]}})}},            "terms.t.condition.nationality.any_of[0]", "'China' is no country"),
    ({"terms": {"t": term({"org_country": {"any_of": ["acme"]}})}},             "terms.t.condition.org_country.any_of[0]", "'acme' is no country"),
    ({"terms": {"t": term({"kind": {"any_of": ["people"]}})}},                  "terms.t.condition.kind.any_of",         "a kind is person or service"),
    ({"terms": {"t": term({"nationality": {"any_of": ["CN"], "all_of": ["US"]}})}}, "terms.t.condition.nationality",      "exactly one of"),
    ({"terms": {"t": term({"nationality": {}})}},                               "terms.t.condition.nationality",         "exactly one of"),
    ({"terms": {"t": term({"nationality": {"any_of": []}})}},                   "terms.t.condition.nationality.any_of",  "at least 1 item"),
    ({"terms": {"t": term({"nationality": {"any_of": None}})}},                 "terms.t.condition.nationality",         "exactly one of"),
    ({"terms": {"t": term({"nationality": None})}},                             "terms.t.condition",                     "exactly one key"),
    ({"terms": {"t": term({"term": None})}},                                    "terms.t.condition",                     "exactly one key"),
    ({"terms": {"t": term({"not": None})}},                                     "terms.t.condition",                     "exactly one key"),
    ({"terms": {"t": term({"nationality": {"any_of": "CN"}})}},                 "terms.t.condition.nationality.any_of",  ""),
    ({"terms": {"t": term({"nationality": {"one_of": ["CN"]}})}},               "terms.t.condition.nationality.one_of",  "not permitted"),
    ({"terms": {"t": term({"religion": {"any_of": ["x"]}})}},                   "terms.t.condition.religion",            "not permitted"),
    ({"terms": {"t": term({**CN, **GREEN_CARD})}},                              "terms.t.condition",                     "exactly one key"),
    ({"terms": {"t": term({})}},                                                "terms.t.condition",                     "exactly one key"),
    ({"terms": {"t": term({"all": []})}},                                       "terms.t.condition.all",                 "at least 1 item"),
    ({"terms": {"t": term({"everyone": False})}},                               "terms.t.condition.everyone",            "True"),
    ({"terms": {"t": term(nested(MAX_DEPTH, CN))}},                             "terms.t.condition.not.not",             "nested deeper than 32"),
    ({"terms": {"t": term(nested(MAX_DEPTH, CN, "all"))}},                      "terms.t.condition.all[0].all[0]",       "nested deeper than 32"),
    ({"terms": {"t": term(nested(20, CN)), "u": term(nested(20, {"term": "t"}))}}, "terms.u.condition",                  "nested deeper than 32"),
    ({"terms": doubling(30)},                                                   "terms.t8.condition",                    f"more than {MAX_PARTS} parts"),
    (directive({"all": [CN, {"term": "u"}]}),                                   "directives.d.who.all[1].term",          "there is no term 'u'"),
    (directive({"nationality": {"any_of": ["US", "group:g"]}}),                 "directives.d.who.nationality.any_of[1]", "there is no group 'g'"),
    (directive(CN, US, {"not": {"term": "u"}}),                                 "directives.d.except[1].not.term",       "there is no term 'u'"),
    (directive(CN, order="o"),                                                  "directives.d.order",                    "there is no order 'o'"),
    (directive(CN, window={"from": "2026-06-13T00:00:00Z", "until": "2026-06-12T00:00:00Z"}), "directives.d.window",     "until must be after from"),
    (directive(CN, window={"from": "2026-06-13T00:00:00"}),                     "directives.d.window.from",              "timezone"),
    (directive(CN, state="on"),                                                 "directives.d.state",                    ""),
    (directive(CN, models=[]),                                                  "directives.d.models",                   "at least 1 item"),
    ({"directives": {"d": DIRECTIVE}},                                          "directives.d.who",                      "required"),
    ({"orgs": {"o": {"country": "USA"}}},                                       "orgs.o.country",                        "'USA' is no country"),
    ({"orgs": {"o": {"attestation": ATTESTATION}}},                             "orgs.o.attestation.terms",              "there is no term 't'"),
    ({"orgs": {"o": {"attestation": {**ATTESTATION, "terms": {}}}}},            "orgs.o.attestation.terms",              "at least 1 item"),
    ({"orgs": {"o": {"end_users": "some"}}},                                    "orgs.o.end_users",                      ""),
]
# fmt: on


@pytest.mark.parametrize(("fields", "where", "what"), MISTAKES, ids=[where for _, where, _ in MISTAKES])
def test_a_mistake_is_named_by_its_path(fields, where, what):
    with pytest.raises(ValidationError) as caught:
        document(**fields)
    told = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in caught.value.errors()]
    assert any(where in line and what in line for line in told), told


def test_as_deep_and_as_long_as_may_be():
    terms = {"t": term(nested(MAX_DEPTH // 2 - 1, CN)), "u": term(nested(MAX_DEPTH // 2 - 1, {"term": "t"}))}
    chain = {f"g{i}": {"countries": [f"group:g{i + 1}"] * 2} for i in range(900)} | {"g900": {"countries": ["CN"]}}
    made = document(terms=terms, groups=chain, **directive({"nationality": {"any_of": ["group:g0"]}}))
    (rule,) = Snapshot(
        made.edited(directives={"d": {**directive(CN)["directives"]["d"], "state": "in_force"}}), 1
    ).rules("claude-fable-5")
    assert rule.applies((person("CN"),)) is YES


def test_the_order_in_which_terms_stand_does_not_matter():
    terms = {"a": term({"term": "b"}), "b": term({"term": "c"}), "c": term(CN)}
    for names in ("abc", "cba", "bac"):
        document(terms={name: terms[name] for name in names})


@pytest.mark.parametrize(("code", "expected"), [
    ("CN", YES), ("US", YES), ("XXA", YES), ("XXB", YES), ("XXC", YES),
    ("cn", NO), ("CHN", NO), ("C", NO), ("", NO), ("C1", NO), ("ÄÖ", NO), ("XXD", NO), ("group:d5", NO),
])  # fmt: skip
def test_a_country(code, expected):
    assert is_country(code) is expected
