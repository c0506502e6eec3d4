"""What waits for a second person: ``change list``, ``show``, ``approve``, ``reject``."""

import json
from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.client import DEFAULT_WAIT, segment
from gateway.cli.exits import Exit, Failure
from gateway.cli.session import Session, Wait, code_of, command

Id = Annotated[str, typer.Argument(metavar="CHANGE")]
Chosen = Annotated[str | None, typer.Argument(metavar="[CHANGE]", help="By default, the only one that waits.")]
AWAITING = "awaiting approval"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    changes = typer.Typer(help="Changes that wait for a second person.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(changes, name="change")
    command(changes, "list")(listing)
    command(changes, "show")(showing)
    command(changes, "approve")(approve)
    command(changes, "reject")(reject)


def listing(
    session: Session,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are decided or expired.")] = False,
) -> Exit:
    """Changes that wait, newest first."""
    query = {} if everything else {"state": AWAITING}
    return session.show(session.client.get("/api/v1/changes", **query), _changes)


def _changes(answer: dict[str, Any]) -> None:
    rows = [
        (
            change["change"],
            change["state"],
            change["by"],
            show.when(change["at"]),
            f"{change['action']} {change['subject']}",
            " ".join(opening["model"] for opening in change["opens"]),
            change.get("note"),
        )
        for change in answer["changes"]
    ]
    show.table(("CHANGE", "STATE", "BY", "SINCE", "WHAT", "OPENS", "NOTE"), rows)


def showing(session: Session, change: Id) -> Exit:
    """One change: who wants it, what it edits, what it opens."""
    return session.show(session.client.get(f"/api/v1/changes/{segment(change)}"), _change)


def _change(body: dict[str, Any]) -> None:
    decided = f", by {body['decided_by']} in revision {body['revision']}" if "decided_by" in body else ""
    print(show.clean(f"{body['change']}: {body['state']}{decided}"))
    print(show.clean(f"by {body['by']}, {show.when(body['at'])}: {body['action']} {body['subject']}"))
    if "awaiting" in body:
        print(f"expires {show.when(body['expires'])}")
    if "note" in body:
        print(show.clean(f"note: {body['note']}"))
    show.opens(body)
    for edit in body["edits"]:
        content = f" {json.dumps(edit['body'], ensure_ascii=False)}" if "body" in edit else ""
        print(show.clean(f"{edit['op']} {edit['kind']}/{edit['id']}{content}"))


def approve(session: Session, change: Chosen = None, wait: Wait = DEFAULT_WAIT) -> Exit:
    """Commit a change that somebody else proposed."""
    change = change or _only_one(session)
    reply = session.client.post(f"/api/v1/changes/{segment(change)}/approve", {}, wait)
    return session.changed(reply, _approved(change, reply.body))


def _approved(change: str, body: Any) -> str:
    about = ", ".join(body.get("models") or ()) if isinstance(body, dict) else ""
    return show.clean(f"APPROVED {change}{show.DOT}{about}" if about else f"APPROVED {change}")


def reject(session: Session, change: Chosen = None, wait: Wait = DEFAULT_WAIT) -> Exit:
    """Say no to a change that somebody else proposed."""
    change = change or _only_one(session)
    reply = session.client.post(f"/api/v1/changes/{segment(change)}/reject", {}, wait)
    return session.changed(reply, f"REJECTED {show.clean(change)}")


def _only_one(session: Session) -> str:
    """The change that waits, where no other does: nobody should agree to what they did not mean.

    Raises:
        Failure: none waits, or several do.
    """
    reply = session.client.get("/api/v1/changes", state=AWAITING)
    if not reply.ok:
        raise Failure(code_of(reply), "the changes that wait cannot be read; name one")
    waiting = [change["change"] for change in reply.body["changes"]]
    if len(waiting) != 1:
        raise Failure(Exit.REFUSED, f"name one of {', '.join(waiting)}" if waiting else "no change waits")
    return str(waiting[0])
