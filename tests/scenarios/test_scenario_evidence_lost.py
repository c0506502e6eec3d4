"""Redis loses everything after many changes: the mirror verifies, the last revision comes back, the chain goes on."""

import json
import re

import pytest
from system import ROOT, System, new_system, until, wait_for


@pytest.fixture(scope="module")
def gateway():
    system = new_system()
    try:
        yield system.start()
    finally:
        system.stop()


def mirrored(system: System) -> dict:
    return json.loads(system.run("audit", "verify", "--json"))


async def test_the_mirror_verifies_and_the_last_revision_comes_back(gateway: System):
    for number in range(20):
        model = ("claude-fable-5", "gpt-5.4", "gemini-3-pro")[number % 3]
        await gateway.offline(model, note=f"change {number}")
    policy = await gateway.ask_admin("GET", "/api/v1/policy")
    revision, document = int(policy.headers["Portcullis-Revision"]), policy.json
    await until(lambda: mirrored_until(gateway, revision), "the mirror to have the last receipt")
    wait_for(lambda: revision == json.loads(gateway.run("policy", "show", "--remembered", "--json"))["rev"], "the disk")
    before = mirrored(gateway)
    assert before["sound"], before["faults"]

    gateway.empty_redis()
    after_loss = mirrored(gateway)
    assert after_loss["sound"]
    assert after_loss["revisions"] == before["revisions"] == revision
    said = gateway.run("policy", "restore", "--seeds", str(ROOT / "seeds"))
    assert re.search(rf"revision {revision + 1}, epoch .* over an empty Redis", said)
    restored = await until(lambda: answered(gateway), "the admin API to know the restored policy")
    assert int(restored.headers["Portcullis-Revision"]) == revision + 1
    assert restored.json == document, "exactly the last revision"

    await until(lambda: mirrored_until(gateway, revision + 1, receipts=False), "the chain to go on")
    found = mirrored(gateway)
    assert found["sound"], found["faults"]
    assert found["begins_after"] == 0
    assert found["ends"]["seq"] > after_loss["ends"]["seq"]


async def answered(gateway: System):
    answer = await gateway.ask_admin("GET", "/api/v1/policy")
    return answer if answer.status == 200 else None


def mirrored_until(gateway: System, revision: int, *, receipts: bool = True) -> bool:
    """Whether the mirror has a revision, and its receipt."""
    path = gateway.directory / "state" / "audit" / "evidence-000001.jsonl"
    entries = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    revisions = {entry["body"]["entry"]["rev"] for entry in entries if entry["kind"] == "revision"}
    proven = {entry["body"]["revision"] for entry in entries if entry["kind"] == "receipt"}
    return revision in revisions and (revision in proven or not receipts)
