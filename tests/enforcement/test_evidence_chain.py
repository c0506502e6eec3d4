"""A copy of the evidence that is not what was written is found out, by both verifiers, whatever was done to it."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.control import verify_archive as other
from gateway.enforcement.chain import Place, linked, signed_head, without_body
from gateway.enforcement.mirror import read_seq
from gateway.enforcement.verifying import Verified, verify
from gateway.policy.document import canonical

AT = "2026-06-12T18:00:00.000+00:00"
COUNT = 8


def chain(signer, count=COUNT, last=None, word="a"):
    """Lines, and the place of each."""
    last, lines, places = last or Place(), [], []
    for number in range(count):
        body = {"said": f"{word} “{number}”", "ms": 0.1 * number, "list": [1, None, True]}
        last, line = linked(signer, last, "note", AT, ["o-1"] if number % 2 else [], body)
        lines.append(line)
        places.append(last)
    return lines, places


def head(signer, place) -> bytes:
    return canonical(signed_head(signer, "test", AT, place, "here").view())


def ours(lines, heads, signer, **more) -> Verified:
    return verify(lines, heads, signer, **more)


class NoKeys:
    """The other verifier without openssl: what is looked at here is found by digests alone."""

    def check(self, *_: object) -> None:
        """Believe it."""


def theirs(lines, places_of_heads) -> str | None:
    """What the script finds; the heads are believed, the chain is not."""
    walk = other.Chain(NoKeys(), None, 0)
    try:
        for line in lines:
            walk.take(line, {place.seq for place in places_of_heads})
        if walk.ends is None:
            return "nothing"
        heads = [{"seq": place.seq, "hash": place.hash, "at": AT} for place in places_of_heads]
        other.compare(walk, heads, "heads")
    except (other.WrongError, KeyError, TypeError, ValueError, AttributeError) as error:
        return repr(error)
    return None


@pytest.fixture(scope="module")
def made(signer):
    lines, places = chain(signer)
    return signer, lines, places


def both(made, lines, heads=None) -> tuple[bool, bool]:
    """Whether each of the two finds something."""
    signer, _, places = made
    heads = places[-1:] if heads is None else heads
    found = ours(lines, [head(signer, place) for place in heads], signer)
    return not found.sound, theirs(lines, heads) is not None


def test_what_was_written_is_sound(made):
    assert both(made, made[1]) == (False, False)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_bit_of_any_entry(made, data):
    lines = list(made[1])
    number = data.draw(st.integers(0, COUNT - 1))
    position = data.draw(st.integers(0, 8 * len(lines[number]) - 1))
    line = bytearray(lines[number])
    line[position // 8] ^= 1 << position % 8
    lines[number] = bytes(line)
    assert both(made, lines) == (True, True), lines[number]


TAMPERED = {
    "one is missing": (lambda lines: [*lines[:3], *lines[4:]], [-1]),
    "two are exchanged": (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], [-1]),
    "one is there twice": (lambda lines: [*lines[:4], lines[3], *lines[4:]], [-1]),
    "the end is missing": (lambda lines: lines[:-1], [-1]),
    "all are missing": (lambda lines: [], [-1]),
    "a body is left out": (lambda lines: [*lines[:3], without_body(lines[3]), *lines[4:]], [-1]),
    "a body is another's": (lambda lines: [*lines[:3], swapped(lines[3], lines[4]), *lines[4:]], [-1]),
}


def swapped(line: bytes, stranger: bytes) -> bytes:
    return canonical({**json.loads(line), "body": json.loads(stranger)["body"]})


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_done_to_it(made, what):
    change, heads = TAMPERED[what]
    assert both(made, change(made[1]), [made[2][i] for i in heads]) == (True, True)


def test_an_inserted_entry_is_of_ours_or_breaks_the_chain(made, stranger):
    signer, lines, places = made
    _, forged = linked(stranger, places[2], "note", AT, [], {"said": "never"})
    assert both(made, [*lines[:3], forged, *lines[3:]]) == (True, True)
    _, stolen = linked(signer, places[2], "note", AT, [], {"said": "never"})
    assert both(made, [*lines[:3], stolen, *lines[3:]]) == (True, True), (
        "even with our key: the next one does not hold it"
    )


def test_a_head_that_somebody_holds_finds_a_cut_end_and_another_history(made):
    signer, lines, places = made
    held = head(signer, places[-1])
    short = ours(lines[:-2], [head(signer, places[-3])], signer, held=[held])
    assert any("cut off" in fault for fault in short.faults)
    again, afresh = chain(signer, word="b")
    other_history = ours(again, [head(signer, afresh[-1])], signer, held=[held])
    assert not other_history.sound, "signed anew with the same key, but not what was held"
    assert theirs(lines[:-2], [places[-1]])
    assert theirs(again, [places[-1]])


def test_another_key_is_not_ours(made, stranger):
    signer, *_ = made
    lines, places = chain(stranger)
    assert not ours(lines, [head(stranger, places[-1])], signer).sound


def test_what_is_left_out_is_not_about_the_order(made):
    signer, lines, places = made
    bare = [without_body(line) if number % 2 == 0 else line for number, line in enumerate(lines)]
    found = ours(bare, [head(signer, places[-1])], signer, order="o-1")
    assert (found.sound, found.left_out) == (True, COUNT / 2)
    hidden = [without_body(line) for line in lines]
    assert not ours(hidden, [head(signer, places[-1])], signer, order="o-1").sound


def test_the_number_of_a_line_is_read_without_reading_the_line(made):
    assert [read_seq(line) for line in made[1]] == list(range(1, COUNT + 1))
    assert read_seq(b"") == 0


def test_numbers_and_letters_of_all_kinds_have_one_spelling(signer):
    random.seed(7)
    body = {"é": [random.uniform(-1e9, 1e9) for _ in range(50)] + [1e-7, 1e22, 0.1 + 0.2], "\u2028": "\U0001f512\x7f"}
    place, line = linked(signer, Place(), "note", AT, [], body)
    assert ours([line], [head(signer, place)], signer).sound
    assert theirs([line], [place]) is None
    assert json.loads(line)["body"] == body


def test_the_script_stands_alone():
    """It imports the standard library, and nothing that would have to be installed."""
    import ast
    import sys

    source = Path(other.__file__).read_text()
    names = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names <= set(sys.stdlib_module_names)
