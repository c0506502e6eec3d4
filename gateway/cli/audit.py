"""The evidence: ``audit show``, ``head``, ``export``, ``verify``."""

import contextlib
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.client import segment
from gateway.cli.exits import Exit, Failure
from gateway.cli.orders import said
from gateway.cli.session import Config, Session, command

Order = Annotated[str | None, typer.Option(metavar="ORDER", help="Only what is about this order.")]
Key = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY", help="The id of the gateway's key, as you know it from elsewhere; or a PEM file."),
]
Heads = Annotated[
    list[Path] | None, typer.Option("--head", metavar="FILE", help="A head that you hold: the copy must reach it.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    audit = typer.Typer(
        help="The evidence: what was done, proven and signed.", no_args_is_help=True, rich_markup_mode=None
    )
    app.add_typer(audit, name="audit")
    command(audit, "show")(showing)
    command(audit, "head")(head)
    command(audit, "export")(export)
    command(audit, "verify")(verify)


def showing(
    session: Session,
    order: Order = None,
    kind: Annotated[
        str | None, typer.Option(help="revision, receipt, change, drill, sign_in, reach, effects …")
    ] = None,
    after: Annotated[int, typer.Option(min=0, help="Begin after this entry.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many at most.")] = 100,
) -> Exit:
    """Entries of the evidence, oldest first."""
    query = {"after": str(after), "limit": str(limit)}
    query |= {name: value for name, value in (("order", order), ("kind", kind)) if value is not None}
    return session.show(session.client.get("/api/v1/audit", **query), _entries)


def _entries(answer: dict[str, Any]) -> None:
    from gateway.control.audit import summary  # noqa: PLC0415 - it imports the control side

    rows = []
    for entry in answer["entries"]:
        short = summary(json.dumps(entry).encode())
        by = short.get("actor") or short.get("by") or short.get("operator")
        rows.append((short["seq"], show.when(short["at"]), short["kind"], short.get("revision"), by, said(short)))
    show.table(("ENTRY", "AT", "KIND", "REVISION", "BY", "WHAT"), rows)
    if answer["next"] is not None:
        print(f"there is more: --after {answer['next']}")


def head(session: Session) -> Exit:
    """Where the chain ends now, signed, as JSON. Keep it where nobody here can change it."""
    return session.show(session.client.get("/api/v1/audit/head"), lambda body: print(json.dumps(body)))


# ------------------------------------------------------------------------------------------------ export


def export(
    session: Session,
    order: Order = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="By default named after it.")] = None,
) -> Exit:
    """An archive that verifies offline, with a report for people: of one order, or of everything."""
    target = out or Path(f"portcullis-{order or 'everything'}.zip")
    partial = target.with_name(f"{target.name}.partial")
    query = "" if order is None else f"?order={segment(order)}"
    size = 0
    with partial.open("wb") as file:
        for piece in session.client.stream(f"/api/v1/audit/export{query}"):
            file.write(piece)
            size += len(piece)
            _progress(f"{size / 1e6:.1f} MB")
    _progress("")
    if not zipfile.is_zipfile(partial):
        raise Failure(Exit.REFUSED, f"the archive broke off after {size} bytes; {partial} has them")
    partial.replace(target)
    print(f"{target}: {size} bytes. Verify it: portcullis audit verify {target}, or verify.py in it")
    return Exit.DONE


def _progress(text: str) -> None:
    """A line that is written over, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------ verify


def verify(
    session: Session,
    copy: Annotated[
        Path | None,
        typer.Argument(metavar="[COPY]", help="An archive, or a mirror's directory; by default this machine's."),
    ] = None,
    key: Key = None,
    head_file: Heads = None,
    config: Config = None,
) -> Exit:
    """Walk a copy entry by entry: whether it is what was signed, and all of it. Asks nobody."""
    from gateway.cli.verifying import verified  # noqa: PLC0415 - it imports the enforcement side

    with _directory(copy) as directory:
        found, notes = verified(directory, key or [], head_file or [], config, lambda n: _progress(f"{n} entries"))
    _progress("")
    if session.as_json:
        print(json.dumps({**found.view(), "notes": notes}))
    else:
        _verdict(found.view(), notes)
    return Exit.DONE if found.sound else Exit.REFUSED


def _verdict(view: dict[str, Any], notes: list[str]) -> None:
    for fault in view["faults"]:
        print(show.clean(f"NOT SOUND: {fault}"))
    if view["sound"]:
        first, last = view["begins_after"] + 1, view["ends"]["seq"]
        print(f"SOUND: entries {first} to {last}, none missing or changed")
        counts = (
            view["entries"] - view["left_out"],
            view["left_out"],
            view["revisions"],
            view["receipts"],
            view["heads"],
        )
        print("  {} whole, {} without body; {} revisions, {} receipts; {} signed heads agree".format(*counts))
        if view["head"] is not None:
            print(show.clean(f"  the last head is of entry {view['head']['seq']}, {view['head']['at']}"))
    for note in notes:
        print(show.clean(f"  {note}"))


@contextlib.contextmanager
def _directory(copy: Path | None) -> Iterator[Path | None]:
    """Where the copy's files are; an archive is unpacked for the while."""
    if copy is None or copy.is_dir():
        yield copy
        return
    try:
        with zipfile.ZipFile(copy) as archive, tempfile.TemporaryDirectory(prefix="portcullis-") as directory:
            archive.extractall(directory)
            yield Path(directory)
    except (OSError, zipfile.BadZipFile) as error:
        raise Failure(Exit.USAGE, f"{copy}: {error}") from None
