"""The story of an order by the command line alone: from the letter to a proof that somebody verifies who trusts nobody.

A letter comes in, effective at a time. It is entered, becomes a directive in shadow, is tried out, and is in force at
its time; somebody is exempted by two people, part of it is lifted, then all. What is exported is verified by the script
in it, with Python's standard library and openssl alone, and the report answers what is asked afterwards.
"""

import json
import re
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anthropic
import pytest
from system import System, new_system, wait_for

FABLE, MYTHOS = "claude-fable-5", "claude-mythos-5"
APPROVER = "demo-approver"
ONLY_US = json.dumps({"not": {"nationality": {"any_of": ["US"]}}})


@pytest.fixture(scope="module")
def gateway():
    system = new_system()
    try:
        yield system.start()
    finally:
        system.stop()


def may(system: System, caller: str, model: str = FABLE) -> bool:
    """Whether a caller gets an answer, as the official SDK sees it."""
    with anthropic.Anthropic(base_url=f"{system.proxy}/anthropic", api_key=caller, max_retries=0) as client:
        try:
            client.messages.create(model=model, max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
        except anthropic.APIStatusError as error:
            assert error.status_code == 451
            return False
    return True


def agreed(system: System, *words: str) -> str:
    """A command that waits for a second person, who agrees."""
    waiting = system.run(*words, code=7)
    assert "STILL DENIED" in waiting
    change = re.search(r"change (c-\w+)", waiting)[1]
    return system.run("change", "approve", change, token=APPROVER)


def tell(system: System, tmp_path: Path) -> None:
    """The story."""
    letter = tmp_path / "letter.txt"
    letter.write_text("To whom it may concern …")
    system.run(
        *("order", "receive", "bis-0612", "--authority", "Department of Commerce", "--reference", "BIS-2026-0612"),
        *("--citation", "15 CFR 744.11", "--text", str(letter), "--scope", "Two models, US nationals only"),
        *("--contact", "counsel@example.com", "--review", "2026-12-12", "--disclose"),
    )
    assert may(system, "demo-bob")
    restrict = (
        *("restrict", FABLE, "--who", ONLY_US, "--order", "bis-0612", "--id", "us-only"),
        *("--note", "As in the letter, point 2.", "--from"),
    )
    tried = system.run(*restrict, (datetime.now(UTC) + timedelta(hours=1)).isoformat(), "--dry-run")
    assert "LOSES claude-fable-5" in tried
    begins = datetime.now(UTC) + timedelta(seconds=7)
    system.run(*restrict, begins.isoformat(timespec="milliseconds"), "--shadow")
    system.run("directive", "enforce", "us-only")
    assert may(system, "demo-bob"), "not before its time"
    (feed,) = [each for each in availability(system, "demo-bob") if each["model"] == FABLE]
    assert feed["available"] is True
    assert feed["notice"]["from"] == begins.isoformat(timespec="seconds").replace("+00:00", "Z")
    wait_for(lambda: not may(system, "demo-bob"), "the order's time")
    print(
        f"refused {(datetime.now(UTC) - begins).total_seconds() * 1000:.0f} ms after the order's time, as seen by asking"
    )
    assert datetime.now(UTC) >= begins
    shown = wait_for(lambda: in_force(system), "the order to be in force")
    assert "window_begins directives/us-only" in shown
    assert may(system, "demo-alice")
    system.run("offline", MYTHOS, "--order", "bis-0612")

    agreed(system, "directive", "exempt", "us-only", "--caller", "demo-bob")
    assert may(system, "demo-bob")
    assert not may(system, "demo-chen")
    agreed(system, "online", MYTHOS)
    assert "PARTLY LIFTED" in system.run("order", "history", "bis-0612")
    wait_for(lambda: affected(system), "the workers' counts")
    agreed(system, "order", "lift", "bis-0612")
    assert may(system, "demo-chen")


def in_force(system: System) -> str | None:
    shown = system.run("order", "history", "bis-0612")
    return shown if "IN FORCE" in shown else None


def affected(system: System) -> bool:
    import redis

    with redis.Redis(unix_socket_path=str(system.redis_socket)) as client:
        return client.exists("{pc}:effects:us-only")


def availability(system: System, caller: str) -> list:
    import urllib.request

    request = urllib.request.Request(f"{system.proxy}/availability", headers={"Portcullis-Key": caller})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["models"]


def verify(directory: Path, *more: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", directory / "verify.py", *more], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_story_of_an_order(gateway, tmp_path):
    tell(gateway, tmp_path)
    held = tmp_path / "head.json"
    held.write_text(gateway.run("audit", "head"))
    shown = gateway.run("order", "history", "bis-0612")
    for deed in ("order.put", "directive.put", "proposed as", "approve", "window_begins", "enforced"):
        assert deed in shown, shown
    archive = tmp_path / "bis.zip"
    gateway.run("audit", "export", "--order", "bis-0612", "-o", str(archive), token=APPROVER)
    with zipfile.ZipFile(archive) as found:
        found.extractall(tmp_path / "copy")
    copy = tmp_path / "copy"
    kid = next((copy / "keys").glob("*.pem")).stem
    code, said = verify(copy, "--key", kid, "--head", str(held))
    assert (code, said[:6]) == (0, "SOUND:"), said
    print(said)
    assert "SOUND" in gateway.run("audit", "verify", str(archive), "--key", kid, "--head", str(held))
    assert "SOUND" in gateway.run("audit", "verify"), "this machine's mirror"
    report(copy)


TAMPERED = {
    "a byte of an entry": ("evidence.jsonl", lambda data: data.replace(b"demo-operator", b"demo-operatoR", 1)),
    "an entry is gone": ("evidence.jsonl", lambda data: b"".join(data.splitlines(keepends=True)[1:])),
    "the end is gone": ("evidence.jsonl", lambda data: b"".join(data.splitlines(keepends=True)[:-1])),
    "two are exchanged": ("evidence.jsonl", lambda data: b"".join(exchanged(data.splitlines(keepends=True)))),
    "a head": ("heads.jsonl", lambda data: data.replace(b'"seq":', b'"seq":1', 1)),
    "the report": ("report.html", lambda data: data.replace(b"demo-bob", b"demo-eve")),
    "who is who": ("names.json", lambda data: data.replace(b"demo-bob", b"demo-eve")),
}


def exchanged(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


def test_what_was_done_to_an_archive_is_found(gateway, tmp_path):
    """By the script as it is run, on files that were changed; that digests alone find it has tests of its own."""
    gateway.run("audit", "export", "-o", str(tmp_path / "all.zip"), token=APPROVER)
    copy = tmp_path / "copy"
    with zipfile.ZipFile(tmp_path / "all.zip") as found:
        found.extractall(copy)
    assert verify(copy)[0] == 0
    for what, (name, change) in TAMPERED.items():
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes(change(kept))
        code, said = verify(copy)
        assert (code, said[:9]) == ((1, "NOT SOUND") if change(kept) != kept else (0, "SOUND: ev")), (what, said)
        (copy / name).write_bytes(kept)
    assert verify(copy, "--key", "0" * 16)[0] == 1, "another key than the one that is known"


def report(copy: Path) -> None:
    """What an operator asks afterwards is answered by the page, and by the data behind it."""
    facts = json.loads((copy / "report.json").read_bytes())
    page = (copy / "report.html").read_text()
    (fable,) = [each for each in facts["access"] if each["model"] == FABLE]
    exempted = next(
        period
        for period in fable["periods"]
        if any(c["name"] == "demo-bob" for c in period["callers"]) and not period["everybody"]
    )
    names = {caller["name"] for caller in exempted["callers"]}
    assert names == {"demo-alice", "demo-erin", "demo-bob"}
    (bob,) = [caller["why"] for caller in exempted["callers"] if caller["name"] == "demo-bob"]
    assert "exempt from us-only" in bob[0]
    assert "demo-operator (who proposed it) and demo-approver (who approved it)" in bob[0]
    answers = facts["answers"]
    assert answers["in_force"]
    assert answers["proven"]
    assert answers["first_refusal"]
    assert answers["lifted"]
    assert "nationality" not in (copy / "names.json").read_text()
    assert "Is this copy complete?" in page
    assert "<script" not in page
