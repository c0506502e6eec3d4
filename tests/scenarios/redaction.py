"""What must not be in any log: keys, tokens, nationalities, prompts. Looked for in the logs of every system that ran.

Before a gateway ends it is sent what has the canary in every place where a secret can stand; its log then is to have
nothing of it, and nothing that looks like a key, a token or a country. Every event in it is one of the table.
"""

import contextlib
import http.client
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from gateway.identity.countries import ISO_3166_1
from gateway.observability.events import EVENTS, REQUEST

CANARY = "xyzzy-canary"
PROMPTS = (CANARY, "Tell me a story")
KEY = f"pc_0123456789abcdef_{CANARY.replace('-', '')}0123456789abcdef"
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4eXp6eS1jYW5hcnkifQ.c2ln"
SECRETS = re.compile(
    r"sim-key|PRIVATE KEY|pc_[0-9a-z]{4,}_[0-9A-Za-z_-]{16,}|eyJ[A-Za-z0-9_-]{8,}\.|xyzzy|"
    + "|".join(map(re.escape, PROMPTS))
)
"""The providers' key, a private key, a caller's key, a token, a prompt."""

DEMO = re.compile(r"\bdemo-(?!operator\b|approver\b)")
"""Callers of the demo: their ids are their keys, too."""

IDS = {"actor", "by", "operator", "subject"}
"""Fields that hold the id of an operator, or of what was changed: not of who asks."""

ALARMS = {"caller_unusable"}
"""Events whose error names the record that somebody forged: whoever looks for the forger needs it."""

QUOTED_COUNTRY = re.compile(r"""(?<=['"])[A-Z]{2}(?=['"])""")

_FIELDS: dict[str, set[str]] = defaultdict(lambda: {"event", "level", "timestamp"})
for _event in EVENTS:
    _FIELDS[_event.name] |= {*_event.fields, *_event.bound}


def plant(proxy: str) -> None:
    """Ask a gateway with the canary in every place. Whatever it answers, if it does."""
    address = urlsplit(proxy)
    said = {"role": "user", "content": CANARY}
    chat = {"model": "gpt-5.4-mini", "messages": [said], "user": CANARY, "metadata": {"nationality": "CN"}}
    for path, key, body in (
        ("/openai/v1/chat/completions", "demo-alice", json.dumps(chat)),
        ("/openai/v1/chat/completions", "demo-chen", json.dumps(chat)[:-1]),
        ("/openai/v1/chat/completions", KEY, json.dumps(chat)),
        ("/openai/v1/chat/completions", TOKEN, json.dumps(chat)),
        (f"/openai/v1/{CANARY}?q={CANARY}", "demo-dana", CANARY),
    ):
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=1.0)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Cookie": CANARY}
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request(
                "POST", path, body, headers | {"Portcullis-On-Behalf-Of": TOKEN} if key == TOKEN else headers
            )
            connection.getresponse().read()
        connection.close()


def check(log: Path) -> None:
    """Raise where a log has what it must not have, or an event that no table has."""
    found = list(_found(log))
    assert not found, "\n".join(found[:20])


def _found(log: Path) -> Iterator[str]:
    if not log.exists():
        return
    for raw in log.read_text(errors="replace").splitlines():
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            line = None
        if isinstance(line, dict):
            yield from _of_line(line, raw)
        elif SECRETS.search(raw):
            yield f"a secret: {raw}"


def _of_line(line: dict[str, Any], raw: str) -> Iterator[str]:
    if SECRETS.search(raw):
        yield f"a secret: {raw}"
    shown = {name: value for name, value in line.items() if name not in IDS}
    text = orjson.dumps(shown).decode() if line.keys() & IDS else raw
    if DEMO.search(text) and line.get("event") not in ALARMS:
        yield f"a caller's key or id: {raw}"
    if any(code in ISO_3166_1 for code in QUOTED_COUNTRY.findall(text)):
        yield f"a country: {raw}"
    fields = REQUEST.keys() if line.get("event") == "request" else _FIELDS.get(line.get("event", ""))
    if fields is None:
        yield f"no event of the table: {raw}"
    elif not line.keys() <= fields:
        yield f"fields that the table has not: {sorted(line.keys() - fields)}: {raw}"
