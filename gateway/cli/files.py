"""Objects that are written in files, and put as they stand."""

import json
import sys
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.exits import Exit, Failure
from gateway.cli.restrict import parsed
from gateway.cli.session import Session

File = Annotated[Path, typer.Argument(metavar="FILE", help="TOML by *.toml, else JSON; - is standard input, JSON.")]


def put_file(session: Session, path: str, name: str, file: Path, wait: float) -> Exit:
    """Create an object, or replace the one that is there now."""
    body = read(file)
    there = session.client.get(path)
    if there.ok:
        reply = session.client.replace(path, body, there.etag, wait)
    elif there.status == 404:
        reply = session.client.create(path, body, wait)
    else:
        return session.changed(there, "")
    return session.changed(reply, f"{'CHANGED' if there.ok else 'ADDED'} {show.clean(name)}")


def read(file: Path) -> dict[str, Any]:
    """A file's object: TOML or JSON.

    Raises:
        Failure: it cannot be read.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(Exit.USAGE, f"{file}: {error.strerror}") from None
    if file.suffix != ".toml":
        return parsed(text, str(file))
    try:
        found: dict[str, Any] = json.loads(json.dumps(tomllib.loads(text), default=_written))
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise Failure(Exit.USAGE, f"{file}: {error}") from None
    return found


def _written(value: object) -> str:
    """TOML's times, as JSON has them."""
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{value!r} cannot be sent")
