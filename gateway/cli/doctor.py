"""``portcullis doctor``: this machine, its Redis and its providers looked at; what is wrong, and what to do."""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import uvloop

from gateway.cli import proof, show
from gateway.cli.exits import Exit, Failure
from gateway.cli.machine import explained, redis_of
from gateway.cli.session import Session
from gateway.cli.target import Target
from gateway.doctor import Finding, Level, examine
from gateway.doctor.findings import fail, ok, warn
from gateway.settings import Settings, load

_WIDTH = 34


def doctor(config: Path | None, target: Target, *, strict: bool, drill: bool, as_json: bool) -> NoReturn:
    """Say what was found, line by line. Exit code 1 where something fails (``strict``: or could be better)."""
    with explained():
        settings = load(config)
        found = [*uvloop.run(_examined(settings, quiet=as_json)), serving(target)]
        if drill:
            found.append(_drilled(as_json=as_json))
    if as_json:
        print(json.dumps([asdict(finding) for finding in found]))
    else:
        for finding in found[-2 if drill else -1 :]:
            _show(finding)
        counts = {level: sum(finding.level is level for finding in found) for level in Level}
        print(", ".join(f"{count} {level}" for level, count in counts.items()))
        if not drill:
            print("Not looked at: whether a kill works, end to end. --drill does that (docs/enforcement.md).")
    bad = {Level.FAIL, Level.WARN} if strict else {Level.FAIL}
    sys.exit(any(finding.level in bad for finding in found))


def _drilled(*, as_json: bool) -> Finding:
    """Take the canary off and on; the steps are shown as they come."""
    session = Session(None, as_json=as_json)
    try:
        with redirect_stdout(sys.stderr):
            ended = proof.drill(session)
    except Failure as failure:
        return fail("drill", str(failure), "PORTCULLIS_TOKEN of an operator, and a gateway that serves")
    finally:
        session.close()
    if ended is not Exit.DONE:
        return fail("drill", f"it did not pass (exit code {ended:d})", "its last step says where; docs/enforcement.md")
    return ok("drill", "the canary went off and on, end to end")


async def _examined(settings: Settings, *, quiet: bool) -> list[Finding]:
    """Everything that was found; shown as it is, for some looks take seconds."""
    found = []
    async with redis_of(settings) as client:
        async for finding in examine(settings, client):
            found.append(finding)
            if not quiet:
                _show(finding)
    return found


def serving(target: Target) -> Finding:
    """Whether a gateway serves here: its ``/readyz`` needs no token."""
    parts = urlsplit(target.url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, HTTPException, ValueError) as error:
        return warn("serve", f"nobody at {target.url}: {error}", "portcullis serve; or set PORTCULLIS_URL")
    finally:
        connection.close()
    workers = ", ".join(f"{count} {state}" for state, count in body.get("workers", {}).items() if count)
    if answer.status != 200:
        return Finding(Level.FAIL, "serve", f"{target.url} is not ready: {workers}", "look at its log")
    return ok("serve", f"{target.url} is ready: {workers}")


def _show(finding: Finding) -> None:
    do = f"\n{'':{_WIDTH + 6}}→ {finding.do}" if finding.do else ""
    print(f"{finding.level:<5} {show.clean(finding.what):<{_WIDTH}}{show.clean(finding.found)}{do}", flush=True)
