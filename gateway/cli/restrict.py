"""On for some: ``restrict`` and ``lift``."""

import json
from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.client import DEFAULT_WAIT, segment
from gateway.cli.exits import Exit, Failure
from gateway.cli.models import (
    Authority,
    Disclose,
    LetFinish,
    Models,
    Note,
    Order,
    OrderUrl,
    Patterns,
    PublicMessage,
    Reference,
    names,
    new_id,
    order_of,
)
from gateway.cli.session import DryRun, Session, Wait, command

Time = Annotated[str | None, typer.Option(metavar="TIME", help="RFC 3339, such as 2026-06-12T17:00:00Z.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "restrict")(restrict)
    command(app, "lift")(lift)


def restrict(
    session: Session,
    models: Models = None,
    pattern: Patterns = None,
    only: Annotated[
        str | None, typer.Option(metavar="TERM", help="Deny all of whom this term is not true, or not known.")
    ] = None,
    deny_nationality: Annotated[
        list[str] | None, typer.Option(metavar="CC,…", help="Deny these nationalities; group:NAME too.")
    ] = None,
    who: Annotated[str | None, typer.Option(metavar="JSON", help="Deny whom this condition means.")] = None,
    except_org: Annotated[list[str] | None, typer.Option(metavar="ORG", help="But not those of this one.")] = None,
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="RFC 3339; by default now.")] = None,
    until: Time = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Deny nobody; count who would be.")] = False,
    directive_id: Annotated[str | None, typer.Option("--id", help="Its id; by default one is made up.")] = None,
    note: Note = None,
    public_message: PublicMessage = None,
    order: Order = None,
    authority: Authority = None,
    reference: Reference = None,
    order_url: OrderUrl = None,
    disclose: Disclose = False,
    let_finish: LetFinish = None,
    dry_run: DryRun = False,
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """Deny models to some, now, with one directive."""
    window = {name: moment for name, moment in (("from", begin), ("until", until)) if moment is not None}
    body: dict[str, Any] = {
        "models": names(models, pattern),
        "who": _who(only, deny_nationality, who),
        "except": [{"org": {"any_of": except_org}}] if except_org else None,
        "window": window or None,
        "note": note,
        "public_message": public_message,
        "order": order_of(order, authority, reference, order_url, disclose=disclose),
        "in_flight": None if let_finish is None else {"let_finish": let_finish},
        "state": "shadow" if shadow else "in_force",
    }
    given = {name: value for name, value in body.items() if value is not None}
    name = directive_id or new_id()
    if dry_run:
        return session.tried([{"op": "put", "kind": "directives", "id": name, "body": given}])
    reply = session.client.create(f"/api/v1/directives/{segment(name)}", given, wait)
    about = ", ".join(given["models"])
    headline = f"IN SHADOW {about}: nobody is denied" if shadow else f"RESTRICTED {about}"
    return session.changed(reply, show.clean(headline), show.clean(f"directive {name} (end: portcullis lift {name})"))


def _who(only: str | None, nationalities: list[str] | None, who: str | None) -> dict[str, Any]:
    """The condition that is meant.

    Raises:
        Failure: none is, or several are, or it is no JSON.
    """
    if [only is not None, bool(nationalities), who is not None].count(True) != 1:
        raise Failure(Exit.USAGE, "say one of --only TERM, --deny-nationality CC,…, --who JSON")
    if only is not None:
        return {"not": {"term": only}}
    if nationalities:
        return {"nationality": {"any_of": [code for codes in nationalities for code in codes.split(",") if code]}}
    return parsed(who or "", "--who")


def parsed(text: str, what: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Failure: it is none.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failure(Exit.USAGE, f"{what} is no JSON object")
    return found


def lift(
    session: Session,
    directive: Annotated[str, typer.Argument(metavar="ID")],
    dry_run: DryRun = False,
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """End a directive, for good. Under an order it waits for an approver, with exit code 7."""
    if dry_run:
        return session.tried([{"op": "state", "kind": "directives", "id": directive, "body": {"state": "lifted"}}])
    reply = session.client.post(f"/api/v1/directives/{segment(directive)}/lift", {}, wait)
    return session.changed(reply, f"LIFTED {show.clean(directive)}")
