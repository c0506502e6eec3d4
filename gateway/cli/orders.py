"""``order receive``, ``history``, ``lift``; ``directive exempt``, ``reopen``: a letter becomes policy, and ends."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.client import DEFAULT_WAIT, Reply, segment
from gateway.cli.exits import Exit, Failure
from gateway.cli.session import Session, Wait, command

Id = Annotated[str, typer.Argument(metavar="ID")]
_KEPT = ("models", "who", "except", "window", "in_flight", "order", "public_message", "note")
"""What a directive is put with."""


def add_to_orders(group: typer.Typer) -> None:
    """Register the commands of orders."""
    command(group, "receive")(receive)
    command(group, "history")(history)
    command(group, "lift")(lift)


def add_to_directives(group: typer.Typer) -> None:
    """Register the commands of directives."""
    command(group, "exempt")(exempt)
    command(group, "reopen")(reopen)


# ------------------------------------------------------------------------------------------------ orders


def receive(
    session: Session,
    order: Id,
    authority: Annotated[str, typer.Option(help="Who ordered it.")],
    reference: Annotated[str, typer.Option(help="The order's number or title.")],
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The letter: its SHA-256 is kept, and nothing else of it.")
    ] = None,
    received: Annotated[str | None, typer.Option(metavar="TIME", help="RFC 3339; by default now.")] = None,
    citation: Annotated[str | None, typer.Option(help="The law that it rests on.")] = None,
    scope: Annotated[str | None, typer.Option(help="What it asks for, in words.")] = None,
    contact: Annotated[str | None, typer.Option(help="Whom to ask about it.")] = None,
    review: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="When to look whether it stands.")] = None,
    url: Annotated[str | None, typer.Option(help="Where it can be read.")] = None,
    disclose: Annotated[bool, typer.Option("--disclose", help="The refused may learn of it.")] = False,
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """Enter an order that has come in. It restricts nothing yet: restrict or offline with --order does."""
    body = {
        "authority": authority,
        "reference": reference,
        "text_sha256": None if text is None else _digest(text),
        "received": received or datetime.now(UTC).isoformat(timespec="seconds"),
        "citation": citation,
        "scope": scope,
        "contact": contact,
        "review": review,
        "url": url,
        "disclose": disclose,
    }
    given = {name: value for name, value in body.items() if value is not None}
    reply = session.client.create(f"/api/v1/orders/{segment(order)}", given, wait)
    return session.changed(reply, show.clean(f"RECEIVED {order}"), show.clean(f"{authority}, {reference}"))


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise Failure(Exit.USAGE, f"{path}: {error.strerror}") from None


def history(session: Session, order: Id) -> Exit:
    """One order: how far it has come, and everything that was done under it."""
    return session.show(session.client.get(f"/api/v1/orders/{segment(order)}"), _order)


_FIELDS = (
    "authority", "reference", "citation", "scope", "received", "contact", "review", "url", "text_sha256", "holds",
    "directives",
)  # fmt: skip


def _order(body: dict[str, Any]) -> None:
    print(show.clean(f"{body['id']}: {body['progress'].replace('_', ' ').upper()}"))
    for name in _FIELDS:
        value = body.get(name)
        if value:
            print(show.clean(f"  {name.replace('_', ' ')}: {' '.join(value) if isinstance(value, list) else value}"))
    rows = [
        (
            each["seq"],
            show.when(each["at"]),
            each["kind"],
            each.get("revision"),
            each.get("actor") or each.get("by"),
            said(each),
        )
        for each in body["done"]
    ]
    show.table(("ENTRY", "AT", "KIND", "REVISION", "BY", "WHAT"), rows)


def said(each: dict[str, Any]) -> str:
    """An entry of the evidence in a few words."""
    match each["kind"]:
        case "revision":
            return f"{each['action']} {each['subject']}"
        case "receipt":
            state = "enforced" if each["enforced"] else "NOT ENFORCED"
            return f"{state} ({each['basis']}) after {each['elapsed_ms']:.1f} ms, {each['streams_cut']} streams cut"
        case "change":
            return f"proposed as {each['change']}"
        case _:
            return each.get("operator") or each.get("drill") or ""


def lift(session: Session, order: Id, wait: Wait = DEFAULT_WAIT) -> Exit:
    """End all that stands under an order. It waits for an approver, with exit code 7."""
    reply = session.client.post(f"/api/v1/orders/{segment(order)}/lift", {}, wait)
    return session.changed(reply, f"LIFTED all under {show.clean(order)}")


# ------------------------------------------------------------------------------------------------ directives


def exempt(
    session: Session,
    directive: Id,
    caller: Annotated[list[str] | None, typer.Option(metavar="CALLER", help="A caller that it does not mean.")] = None,
    org: Annotated[list[str] | None, typer.Option(metavar="ORG", help="An organisation that it does not mean.")] = None,
    term: Annotated[list[str] | None, typer.Option(metavar="TERM", help="Whoever this term is true of.")] = None,
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """Add an exemption to a directive. Under an order it waits for an approver, with exit code 7."""
    exempted: list[dict[str, Any]] = [{"caller": {"any_of": caller}}] if caller else []
    exempted += [{"org": {"any_of": org}}] if org else []
    exempted += [{"term": name} for name in term or ()]
    if not exempted:
        raise Failure(Exit.USAGE, "say whom: --caller, --org or --term")
    path = f"/api/v1/directives/{segment(directive)}"
    there = session.client.get(path)
    if not there.ok:
        return session.changed(there, "")
    body = _body(there)
    body["except"] = [*body.get("except", ()), *exempted]
    return session.changed(
        session.client.replace(path, body, there.etag, wait), f"EXEMPTED from {show.clean(directive)}"
    )


def _body(reply: Reply) -> dict[str, Any]:
    return {name: reply.body[name] for name in _KEPT if name in reply.body}


def reopen(session: Session, directive: Id, wait: Wait = DEFAULT_WAIT) -> Exit:
    """Let a directive's end lift it by itself. Under an order it waits for an approver, with exit code 7."""
    reply = session.client.post(f"/api/v1/directives/{segment(directive)}/reopen", {}, wait)
    return session.changed(reply, f"ENDS BY ITSELF {show.clean(directive)}")
