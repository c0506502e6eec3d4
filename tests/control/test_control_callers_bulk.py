"""Callers by the thousand: JSON lines in, JSON lines out."""

import io
import json

import pytest
import pytest_asyncio
from control_harness import APPROVER, OPERATOR, REGISTRAR, VIEWER, start_gate, stop_gate

from gateway.control import app, callers_bulk
from gateway.control.callers_bulk import BATCH, MAX_LINE, lines

IMPORT, EXPORT = "/api/v1/callers:import", "/api/v1/callers:export"


@pytest_asyncio.fixture
async def gate(redis_server, tmp_path, monkeypatch):
    routes = (*(each for each in app.ROUTES if each not in callers_bulk.ROUTES), *callers_bulk.ROUTES)
    monkeypatch.setattr(app, "ROUTES", routes)
    gate = await start_gate(redis_server, tmp_path)
    await gate.replica()
    yield gate
    await stop_gate(gate)


def person(number: int, **fields) -> dict:
    return {"id": f"p-{number:06}", "kind": "person", "attributes": {"nationality": ["FR"]}, **fields}


def file(*entries) -> bytes:
    return b"".join((entry if isinstance(entry, bytes) else json.dumps(entry).encode()) + b"\n" for entry in entries)


async def take(gate, body, query=""):
    headers = {"Authorization": f"Bearer {REGISTRAR}"}
    async with gate.client.post(IMPORT + query, data=io.BytesIO(body), headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        return [json.loads(line) for line in (await answer.read()).splitlines()]


async def test_callers_are_stored_a_revision_for_each_batch(gate, monkeypatch):
    monkeypatch.setattr(callers_bulk, "BATCH", 10)
    said = await take(gate, file(*(person(n) for n in range(25))))
    assert [line.get("lines") for line in said] == [[1, 10], [11, 20], [21, 25], None]
    assert [line["revision"] for line in said[:3]] == [2, 3, 4]
    assert all(line["enforced"] for line in said[:3])
    assert said[-1] == {"done": True, "stored": 25, "unchanged": 0, "left_out": 0}
    entry = await gate.store.entry(3)
    assert (entry.action, entry.actor, len(entry.callers)) == ("callers.import", REGISTRAR, 10)
    got = await gate.get("/api/v1/callers/p-000017")
    assert (got["attributes"], got["changed"]) == ({"nationality": ["FR"]}, 3)
    assert len(got["pseudonym"]) == 16


async def test_a_second_time_changes_nothing(gate):
    body = file(person(1), person(2))
    await take(gate, body)
    assert await take(gate, body) == [
        {"lines": [1, 2], "stored": 0, "unchanged": 2},
        {"done": True, "stored": 0, "unchanged": 2, "left_out": 0},
    ]
    said = await take(gate, file(person(1), person(2, org="acme")))
    assert (said[0]["stored"], said[0]["unchanged"]) == (1, 1)
    assert await gate.revision() == 3


async def test_keys_stay(gate):
    before = await gate.get("/api/v1/callers/demo-bob")
    await take(gate, file({"id": "demo-bob", "kind": "person", "attributes": {"nationality": ["FR"]}}))
    after = await gate.get("/api/v1/callers/demo-bob")
    assert after["keys"] == before["keys"]
    assert after["attributes"] == {"nationality": ["FR"]}


BAD = [
    (b"{", "JSON"), (b"[]", "not fit"), ({"kind": "person"}, "id"), ({"id": "x"}, "kind"), ({"id": "a b", "kind": "person"}, "id"),
    ({"id": "x", "kind": "robot"}, "kind"), ({"id": "x", "kind": "person", "admin": True}, "admin"),
    ({"id": "x", "kind": "person", "attributes": {"nationality": []}}, "nationality"),
    ({"id": "x", "kind": "person", "attributes": {"nationality": ["ZZ"]}}, "nationality"),
    (b'{"id": "x", "id": "y", "kind": "person"}', "each key once"), (b"\xff", "UTF-8"),
    (person(1), "shortly before"), (b" " * (MAX_LINE + 1), f"{MAX_LINE} bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "word"), BAD, ids=[word for _, word in BAD])
async def test_a_bad_line_is_told_and_its_batch_left_out(gate, monkeypatch, bad, word):
    monkeypatch.setattr(callers_bulk, "BATCH", 3)
    said = await take(gate, file(person(1), person(2), bad, *(person(n) for n in range(4, 7))))
    assert said[0]["line"] == 3
    assert word in said[0]["error"]
    assert said[1]["lines"] == [1, 3]
    assert "none of these is stored" in said[1]["error"]
    assert (said[2]["lines"], said[2]["stored"]) == ([4, 6], 3)
    assert said[-1] == {"done": True, "stored": 3, "unchanged": 0, "left_out": 3}
    assert (await gate.get("/api/v1/callers/p-000001")).status == 404


@pytest.mark.parametrize("caller_id", ["oidc:corp:alice", "obo:acme:user-17"])
async def test_nobody_is_imported_under_the_id_of_whoever_comes_by_a_token(gate, caller_id):
    said = await take(gate, file(person(1), person(2, id=caller_id)))
    assert said[0]["line"] == 2
    assert "signed token" in said[0]["error"]
    assert said[-1] == {"done": True, "stored": 0, "unchanged": 0, "left_out": 2}


async def test_until_when_something_is_known_comes_in_and_goes_out(gate):
    until = person(1, attributes={"nationality": ["FR"], "expires": "2031-05-01T02:00:00+02:00"})
    assert (await take(gate, file(until)))[-1]["stored"] == 1
    exported = (await gate.get(EXPORT, token=VIEWER)).body.splitlines()
    (line,) = [json.loads(each) for each in exported if b"p-000001" in each]
    assert line["attributes"] == {"nationality": ["FR"], "expires": "2031-05-01T00:00:00Z"}
    assert (await take(gate, file(line)))[-1]["unchanged"] == 1
    said = await take(gate, file(person(2, attributes={"expires": "2031-05-01"})))
    assert said[0]["line"] == 1
    assert "with a zone" in said[0]["error"]


async def test_what_an_order_denies_is_not_opened_by_an_import(gate):
    put = await gate.put(
        "/api/v1/directives/no-cn", token=OPERATOR, If_None_Match="*",
        body={"models": ["claude-fable-5"], "who": {"nationality": {"any_of": ["CN"]}}, "state": "in_force",
              "order": {"authority": "BIS", "reference": "1"}},
    )  # fmt: skip
    assert put.status in (200, 201), put.body
    opening = {"id": "demo-chen", "kind": "person", "attributes": {"nationality": ["FR"]}}
    said = await take(gate, file(opening, person(1)))
    assert said[0]["opens"] == ["claude-fable-5"]
    assert "approval" in said[0]["error"]
    assert (await gate.get("/api/v1/callers/demo-chen"))["attributes"]["nationality"] == ["CN"]
    assert (await gate.get("/api/v1/callers/p-000001")).status == 404


async def test_nothing_and_empty_lines(gate):
    assert await take(gate, b"") == [{"done": True, "stored": 0, "unchanged": 0, "left_out": 0}]
    said = await take(gate, b"\n\r\n" + json.dumps(person(1)).encode())
    assert said[0]["lines"] == [3, 3]


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("nobody", 401), (VIEWER, 403), (OPERATOR, 403)])
async def test_an_import_is_a_registrars(gate, token, status):
    assert (await gate.post(IMPORT, file(person(1)), token=token)).status == status
    assert await gate.revision() == 1


async def test_others_may_commit_meanwhile(gate):
    commit, met = gate.store.commit, []

    async def overtaken(base, document, **more):
        if not met:
            met.append(await commit(base, base.document.edited(contact="x"), actor="o", action="a", subject="s"))
        return await commit(base, document, **more)

    gate.store.commit = overtaken
    assert (await take(gate, file(person(1))))[0]["revision"] == 3


async def test_what_was_exported_can_be_imported(gate):
    exported = await gate.client.get(EXPORT, headers={"Authorization": f"Bearer {APPROVER}"})
    body = await exported.read()
    listed = [json.loads(line) for line in body.splitlines()]
    assert [entry["id"] for entry in listed] == sorted(entry["id"] for entry in listed)
    assert {"id": "demo-acme", "kind": "service", "org": "acme", "attributes": {}} in listed
    assert b"sha256" not in body
    said = await take(gate, body)
    assert said[-1] == {"done": True, "stored": 0, "unchanged": len(listed), "left_out": 0}


async def test_a_full_batch(gate):
    said = await take(gate, file(*(person(n) for n in range(BATCH + 1))), query="?wait=60")
    assert [line["stored"] for line in said] == [BATCH, 1, BATCH + 1]


@pytest.mark.parametrize("cut", [1, 2, 7, 1000])
async def test_lines_are_the_same_however_they_come(cut):
    body = b"a\n\nbb\n" + b"c" * (MAX_LINE + 1) + b"\n" + b"d" * MAX_LINE + b"\nlast"

    class Content:
        async def iter_any(self):
            for start in range(0, len(body), cut):
                yield body[start : start + cut]

    found = [item async for item in lines(Content())]
    assert found == [(1, b"a"), (2, b""), (3, b"bb"), (4, None), (5, b"d" * MAX_LINE), (6, b"last")]
