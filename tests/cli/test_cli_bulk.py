"""Callers by the file, as a registrar sees it."""

import json

import pytest
from control_harness import APPROVER, REGISTRAR

from gateway.cli import bulk
from gateway.cli.exits import Exit


def person(number: int, **fields) -> str:
    return json.dumps({"id": f"p-{number}", "kind": "person", "attributes": {"nationality": ["FR"]}, **fields}) + "\n"


@pytest.fixture
async def served(gate):
    await gate.replica()
    return gate


async def test_an_import_shows_how_far_it_is(served, portcullis, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "PIECE", 2)
    file = tmp_path / "people.jsonl"
    file.write_text("".join(person(n) for n in range(5)))
    shown = await portcullis("caller", "import", str(file), token=REGISTRAR)
    assert (shown.code, shown.out) == (0, f"IMPORTED {file} · 5 stored · 0 unchanged · 0 left out\n")
    assert shown.err.splitlines() == [
        "2 lines · 2 stored · 0 unchanged · 0 left out",
        "4 lines · 4 stored · 0 unchanged · 0 left out",
        "5 lines · 5 stored · 0 unchanged · 0 left out",
    ]
    again = await portcullis("caller", "import", str(file), token=REGISTRAR)
    assert "0 stored · 5 unchanged" in again.out


async def test_a_bad_line_is_told_by_its_number_in_the_file(served, portcullis, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "PIECE", 2)
    file = tmp_path / "people.jsonl"
    file.write_text(person(0) + person(1) + person(2) + person(3, kind="robot") + person(4))
    shown = await portcullis("caller", "import", str(file), token=REGISTRAR)
    assert shown.code == Exit.REFUSED
    assert "line 4: " in shown.err
    assert "line 3 to 4: " in shown.err
    assert shown.out.endswith("3 stored · 0 unchanged · 2 left out\n")
    raw = await portcullis("caller", "import", str(file), "--json", token=REGISTRAR)
    said = [json.loads(line) for line in raw.lines]
    assert [each["lines"] for each in said if "lines" in each] == [[1, 2], [3, 4], [5, 5]]


async def test_what_is_exported_can_be_imported(served, portcullis, tmp_path):
    shown = await portcullis("caller", "export", token=APPROVER)
    ids = [json.loads(line)["id"] for line in shown.lines]
    assert "demo-alice" in ids
    assert ids == sorted(ids)
    file = tmp_path / "all.jsonl"
    file.write_text(shown.out)
    again = await portcullis("caller", "import", str(file), token=REGISTRAR)
    assert f"0 stored · {len(ids)} unchanged" in again.out


async def test_both_say_who_may(served, portcullis, tmp_path):
    (tmp_path / "x").write_text(person(1))
    for words in (("import", str(tmp_path / "x")), ("export",)):
        shown = await portcullis("caller", *words, token="nobody")
        assert shown.code == Exit.NOT_ALLOWED, words
    assert (await portcullis("caller", "import", str(tmp_path / "none"), token=REGISTRAR)).code == Exit.USAGE
