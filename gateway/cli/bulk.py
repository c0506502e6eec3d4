"""Callers by the file: ``caller import``, ``caller export``."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.client import DEFAULT_WAIT
from gateway.cli.exits import Exit, Failure
from gateway.cli.session import Session, Wait

PIECE = 5_000
"""Lines sent at a time: five revisions. What is printed after each is what is stored."""

Lines = Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines, one caller each: id, kind, org, attributes.")]


def caller_import(session: Session, file: Lines, wait: Wait = DEFAULT_WAIT) -> Exit:
    """Store the callers of a file. If it breaks off, import the file again: what is stored stays as it is."""
    total, offset, code = Counter[str](), 0, Exit.DONE
    for piece in _pieces(file):
        reply = session.client.send_lines("/api/v1/callers:import", b"".join(piece), wait)
        if not reply.ok:
            return session.changed(reply, "")
        for said in map(json.loads, reply.text.splitlines()):
            counted = ("left_out",) if "done" in said else ("stored", "unchanged")
            total.update({name: said.get(name, 0) for name in counted})
            code = max(code, _told(session, _moved(said, offset)))
        offset += len(piece)
        if not session.as_json:
            print(f"{offset:,} lines · {_counted(total)}", file=sys.stderr)
    if not session.as_json:
        print(f"IMPORTED {show.clean(str(file))} · {_counted(total)}")
    return code


def _pieces(file: Path) -> Iterator[list[bytes]]:
    try:
        with file.open("rb") as lines:
            while piece := list(islice(lines, PIECE)):
                yield piece
    except OSError as error:
        raise Failure(Exit.USAGE, f"{file}: {error.strerror}") from None


def _moved(said: dict[str, Any], offset: int) -> dict[str, Any]:
    """What was said of a piece, with the numbers of the file's lines."""
    if "line" in said:
        return {**said, "line": said["line"] + offset}
    return {**said, "lines": [number + offset for number in said["lines"]]} if "lines" in said else said


def _told(session: Session, said: dict[str, Any]) -> Exit:
    """Print a mistake, or everything where that is wanted; the exit code that it means."""
    if session.as_json:
        print(json.dumps(said))
    elif "error" in said:
        where = said.get("line") or " to ".join(map(str, said.get("lines", ["the rest"])))
        print(f"line {where}: {show.clean(said['error'])}", file=sys.stderr)
    if "error" in said:
        return Exit.REFUSED
    return Exit.DONE if said.get("enforced", True) else Exit.NOT_ENFORCED


def _counted(total: Counter[str]) -> str:
    return f"{total['stored']:,} stored · {total['unchanged']:,} unchanged · {total['left_out']:,} left out"


def caller_export(session: Session) -> Exit:
    """Every caller as a JSON line, by id, without keys: what an import takes."""
    for piece in session.client.stream("/api/v1/callers:export"):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return Exit.DONE
