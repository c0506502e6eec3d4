"""The fuzzed targets in the suite: what they start from, seeded mutations of that, what was found; and that they bite."""

import random
from collections.abc import Iterator

import pytest
from fuzz_found import FOUND
from fuzz_seeds import frame, mutated, seeds
from fuzz_targets import BODIES, TARGETS, Others

from gateway.dialects.forms import FormReader
from gateway.dialects.selectors import BodyReader, Reading

SEED, TRIES = 20261124, 1500
OTHERS = Others()


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_their_mutations(target: str) -> None:
    pick, start, others = random.Random(SEED), seeds(target), Others()
    for data in start:
        TARGETS[target](data, others)
    assert others.read >= len(start) // 3, "most of what it starts from would be refused"
    for number in range(TRIES):
        data = mutated(pick.choice(start), pick)
        try:
            TARGETS[target](data, others)
        except Exception as error:
            raise AssertionError(f"{target}, mutation {number}: {data!r}") from error
    print(f"\n{target}: {len(start)} seeds, {TRIES} mutations, {others.read} read by ours")


@pytest.mark.parametrize(("target", "data"), FOUND)
def test_what_was_found_once(target: str, data: bytes) -> None:
    TARGETS[target](data, OTHERS)


# ------------------------------------------------------------------------------------------------ they bite


def _first_of_two(body: bytes) -> Iterator[bytes]:
    yield bytes([0]) + body


def read_like_a_server(self: BodyReader, body: bytes) -> Reading:
    """The reader that most servers are: the last of two, whatever its case."""
    import json

    from gateway.dialects.selectors import MalformedBodyError

    try:
        document = json.loads(body)
    except ValueError:
        raise MalformedBodyError("no JSON") from None
    name = document.get("model") if isinstance(document, dict) else None
    if not isinstance(name, str):
        raise MalformedBodyError("no model")
    return Reading((name,), stream=document.get("stream") is True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"K","model":"A"}', b'{"Model":"K","model":"A"}', '{"model":"A","\u017ftream":true}'.encode(),
        b'{"model":"A","moderation":{"model":"K"}}', b'{"model":"A","x":{}}{',
    ],
)  # fmt: skip
def test_a_reader_of_the_usual_kind_is_caught(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.setattr(BodyReader, "read", read_like_a_server)
    at = next(n for n, reader in enumerate(BODIES) if {"model", "moderation"} <= {s.path[0] for s in reader.selectors})
    if body.endswith(b"{"):
        TARGETS["json"](bytes([at]) + body, OTHERS)  # what nobody reads is nobody's
        return
    with pytest.raises(AssertionError):
        TARGETS["json"](bytes([at]) + body, OTHERS)


def test_a_form_of_two_fields_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FormReader, "read", lambda self, body: Reading(("A",), stream=False))
    with pytest.raises(AssertionError, match="reads b'm0'"):
        TARGETS["form"](next(data for data in seeds("form") if b'name="model"' in data), OTHERS)


def test_a_path_that_leads_elsewhere_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz_targets._found", lambda read: True)
    with pytest.raises(AssertionError, match="another path"):
        TARGETS["head"](b"\0GET /v1/files/f%2F..%2Fx HTTP/1.1\r\nHost: gate\r\n\r\n", OTHERS)


def test_frames_put_together_otherwise_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz_targets._messages", lambda reads: [b"{}"])
    with pytest.raises(AssertionError, match="other messages"):
        TARGETS["frames"](b"\0\0" + frame(b'{"type":"session.close"}'), OTHERS)
