"""The document: what is refused, with the path of the mistake, and the bytes that are signed."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from samples import AT, MODELS, document, hold, model, order

from gateway.policy.document import Document, canonical, digest, dump, load, names_of, rfc3339


def mistakes(fields: dict[str, Any]) -> str:
    """What is said of a document with these fields."""
    with pytest.raises(ValidationError) as caught:
        Document.model_validate({"gateway": "test", "models": MODELS, **fields})
    return "\n".join(
        f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in caught.value.errors()
    )


GOOD_HOLD: dict[str, Any] = {"models": ["gpt-5.4"], "by": "op", "at": AT}
MISTAKES = [
    # fields                                                           the path
    ({"surprise": 1}, "surprise"),
    ({"schema": 2}, "schema"),
    ({"gateway": "has blanks"}, "gateway"),
    ({"gateway": ""}, "gateway"),
    ({"information": "javascript:alert(1)"}, "information"),
    ({"information": 'https://a.example/">'}, "information"),
    ({"contact": "x" * 2001}, "contact"),
    ({"max_stale": {"default": 0.5}}, "max_stale.default"),
    ({"max_stale": {"default": 3601}}, "max_stale.default"),
    ({"max_stale": {"default": "NaN"}}, "max_stale.default"),
    ({"max_stale": {"other": 5}}, "max_stale.other"),
    ({"models": {"m": {"routes": []}}}, "models.m.routes"),
    ({"models": {"m": {}}}, "models.m.routes"),
    ({"models": {"m": model("p")}}, "models.m.routes.0.names"),
    ({"models": {"m": model("p", "has blanks")}}, "models.m.routes.0.names.0"),
    ({"models": {"m": model("p", "кириллица")}}, "models.m.routes.0.names.0"),
    ({"models": {"m": model("p", "a\n")}}, "models.m.routes.0.names.0"),
    ({"models": {"m": model("bad provider", "a")}}, "models.m.routes.0.provider"),
    ({"models": {"m": model("p", "a", aliases=["b c"])}}, "models.m.aliases.0"),
    ({"models": {"m": model("p", "a", capability="dreams")}}, "models.m.capability"),
    ({"models": {"m": model("p", "a", max_stale=0)}}, "models.m.max_stale"),
    ({"models": {"m": model("p", "a", offline=True)}}, "models.m.offline"),
    ({"models": {"not an id": model("p", "a")}}, "models.not an id"),
    ({"models": {"m\n": model("p", "a")}}, "models.m\n"),
    ({"holds": {"h": {**GOOD_HOLD, "models": []}}}, "holds.h.models"),
    ({"holds": {"h": {**GOOD_HOLD, "models": ["a b"]}}}, "holds.h.models.0"),
    ({"holds": {"h": {**GOOD_HOLD, "at": "2026-06-12T21:21:00"}}}, "holds.h.at"),
    ({"holds": {"h": {**GOOD_HOLD, "at": "yesterday"}}}, "holds.h.at"),
    ({"holds": {"h": {"models": ["*"], "at": AT}}}, "holds.h.by"),
    ({"holds": {"h": {**GOOD_HOLD, "in_flight": {"let_finish": -1}}}}, "holds.h.in_flight.let_finish"),
    ({"holds": {"h": {**GOOD_HOLD, "in_flight": {"let_finish": 86401}}}}, "holds.h.in_flight.let_finish"),
    ({"holds": {"h": {**GOOD_HOLD, "expires": AT}}}, "holds.h.expires"),
    ({"holds": {"h": {**GOOD_HOLD, "order": "nowhere"}}}, "holds.h.order"),
    ({"orders": {"o": {"authority": "a", "reference": "r", "by": "op"}}}, "orders.o.at"),
    ({"orders": {"o": {"authority": "a", "reference": "r", "by": "op", "at": AT, "url": "ftp://x"}}}, "orders.o.url"),
    ({"changed": {"model/m": "x"}}, "changed.model/m"),
]


@pytest.mark.parametrize(("fields", "path"), MISTAKES)
def test_a_mistake_is_named_by_its_path(fields, path):
    assert path in mistakes(fields)


def test_one_name_at_one_provider_means_one_model():
    ambiguous = {"a": model("p", "x"), "b": model("p", "y", "x")}
    assert "models.b: 'x' at p already means 'a'" in mistakes({"models": ambiguous})
    by_alias = {"a": model("p", "x"), "b": model("p", "y", aliases=["x"])}
    assert "models.b" in mistakes({"models": by_alias})
    Document.model_validate({"gateway": "g", "models": {"a": model("p", "x"), "b": model("q", "x")}})


def test_a_name_may_stand_twice_for_the_same_model():
    Document.model_validate({"gateway": "g", "models": {"a": model("p", "x", aliases=["x"])}})


def test_aliases_are_names_at_every_provider():
    made = document().models["claude-fable-5"]
    assert names_of(made) == {
        ("anthropic", name) for name in ("claude-fable-5", "claude-fable-5-20260401", "claude-fable-latest")
    }


def test_nothing_in_a_document_can_be_changed():
    made = document(holds={"h": hold("*")})
    for part in (made, made.models["gpt-5.4"], made.holds["h"], made.max_stale):
        with pytest.raises(ValidationError):
            part.gateway = "other"


def test_an_edit_is_checked_like_a_document():
    made = document()
    edited = made.edited(holds={"h": hold("*")})
    assert (set(edited.holds), made.holds) == ({"h"}, {})
    with pytest.raises(ValidationError, match=r"holds\.h\.order"):
        made.edited(holds={"h": hold("*", order="nowhere")})


@pytest.mark.parametrize(
    ("fields", "tags", "seconds"),
    [
        ({}, [], 15.0),
        ({}, ["controlled"], 5.0),
        ({"default": 60, "controlled": 2}, ["controlled"], 2.0),
        ({"default": 60, "controlled": 2}, ["other"], 60.0),
    ],
)
def test_how_old_news_may_be(fields, tags, seconds):
    made = document(max_stale=fields, models={"m": model("p", "m", tags=tags)})
    assert made.max_stale_of(made.models["m"]) == seconds
    own = document(max_stale=fields, models={"m": model("p", "m", tags=tags, max_stale=7)})
    assert own.max_stale_of(own.models["m"]) == 7.0


# ---------------------------------------------------------------- bytes


FULL = document(
    holds={
        "h-1": hold("gpt-*", order="o-1", note="n", public_message="m–x", in_flight={"let_finish": 3}),
        "h-2": hold("*", at=datetime(2026, 6, 12, 23, 21, tzinfo=timezone(timedelta(hours=2)))),
    },
    orders={"o-1": order(url="https://example.gov/1", disclose=True)},
    information="https://example.com/blocked",
    max_stale={"default": 20},
    changed={"model/gpt-5.4": 3},
)


@pytest.mark.parametrize("made", [document(), FULL])
def test_a_document_is_read_as_it_was_written(made):
    assert load(dump(made)) == made
    assert dump(load(dump(made))) == dump(made)


def test_the_bytes_do_not_depend_on_the_order_of_things():
    backwards = json.loads(dump(FULL), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert dump(Document.model_validate(backwards)) == dump(FULL)


def test_the_bytes_are_what_they_were():
    """Documents are addressed by their hash, and old ones are evidence: this must not change unnoticed."""
    small = Document.model_validate(
        {"gateway": "g", "models": {"m": model("p", "n")}, "holds": {"h": {"models": ["*"], "by": "op", "at": AT}}}
    )
    assert dump(small) == (
        b'{"gateway":"g","holds":{"h":{"at":"2026-06-12T21:21:00Z","by":"op","models":["*"]}},'
        b'"models":{"m":{"routes":[{"names":["n"],"provider":"p"}]}},"schema":1}'
    )
    assert digest(dump(small)) == digest(dump(load(dump(small))))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1.5, None, True]}, b'{"a":[1.5,null,true],"b":1}'),
        ({"ü": "–"}, '{"ü":"–"}'.encode()),
        ({"a": {"d": 1, "c": {}}}, b'{"a":{"c":{},"d":1}}'),
    ],
)
def test_canonical(value, text):
    assert canonical(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_has_no_json_has_no_canonical_form(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical({"x": value})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_canonical_is_json_and_stable(value):
    try:
        written = canonical(value)
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert json.loads(written) == value
    assert canonical(json.loads(written)) == written


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"{}", b'{"gateway":"g"}x', b"\xff"])
def test_what_is_no_document_is_refused(data):
    with pytest.raises(ValueError):
        load(data)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (AT, "2026-06-12T21:21:00Z"),
        (datetime(2026, 6, 12, 23, 21, tzinfo=timezone(timedelta(hours=2))), "2026-06-12T21:21:00Z"),
        (datetime(2026, 6, 12, 21, 21, 0, 999_999, tzinfo=UTC), "2026-06-12T21:21:00Z"),
    ],
)
def test_times_are_told_in_utc(moment, text):
    assert rfc3339(moment) == text
