"""Who may ask and who may operate: ``caller``, ``caller key``, ``operator``."""

from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.bulk import caller_export, caller_import
from gateway.cli.client import DEFAULT_WAIT, segment
from gateway.cli.exits import Exit, Failure
from gateway.cli.files import File, put_file
from gateway.cli.session import Session, Wait, command

Id = Annotated[str, typer.Argument(metavar="ID")]
Codes = Annotated[list[str] | None, typer.Option(metavar="CC", help="A country, e.g. GB. May be repeated.")]
CodesOrNone = Annotated[
    list[str] | None, typer.Option(metavar="CC", help="A country; or none: known to have none. May be repeated.")
]
NONE = "none"
ATTRIBUTES = ("nationality", "latest_nationality", "permanent_residence", "legal_status")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    callers, keys = _group("Who may ask."), _group("A caller's keys.")
    operators = _group("Who may use the admin API.")
    app.add_typer(callers, name="caller")
    callers.add_typer(keys, name="key")
    app.add_typer(operators, name="operator")
    command(callers, "list")(caller_list)
    command(callers, "show")(caller_show)
    command(callers, "add")(caller_add)
    command(callers, "put")(caller_put)
    command(callers, "remove")(caller_remove)
    command(callers, "import")(caller_import)
    command(callers, "export")(caller_export)
    command(keys, "add")(key_add)
    command(keys, "remove")(key_remove)
    command(operators, "list")(operator_list)
    command(operators, "add")(operator_add)
    command(operators, "remove")(operator_remove)
    command(operators, "token")(operator_token)
    command(operators, "vouch")(operator_vouch)


def _group(summary: str) -> typer.Typer:
    return typer.Typer(help=summary, no_args_is_help=True, rich_markup_mode=None)


# ------------------------------------------------------------------------------------------------ callers


def caller_list(
    session: Session,
    after: Annotated[str, typer.Option(help="Only ids that sort after this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 1000,
) -> Exit:
    """Every caller."""
    return session.show(session.client.get("/api/v1/callers", after=after, limit=str(limit)), _callers)


def _callers(answer: dict[str, Any]) -> None:
    rows = [
        (caller["id"], caller["kind"], caller.get("org"), len(caller["keys"]), caller["pseudonym"])
        for caller in answer["callers"]
    ]
    show.table(("CALLER", "KIND", "ORG", "KEYS", "PSEUDONYM"), rows)
    if answer["next"]:
        print(f"more: portcullis caller list --after {show.clean(answer['next'])}")


def caller_show(session: Session, caller: Id) -> Exit:
    """What is known about a caller, and its keys."""
    return session.show(session.client.get(f"/api/v1/callers/{segment(caller)}"), _caller)


def _caller(caller: dict[str, Any]) -> None:
    known = caller["attributes"]
    rows = [(name, caller.get(name)) for name in ("id", "kind", "org", "pseudonym", "changed")]
    rows += [(name, "not known" if name not in known else ", ".join(known[name]) or NONE) for name in ATTRIBUTES]
    rows += [("known until", show.when(known["expires"]))] if "expires" in known else []
    rows += [(f"key {key}", f"made {show.when(made['created'])}") for key, made in caller["keys"].items()]
    for name, value in rows:
        print(f"{show.clean(name):20} {'-' if value is None else show.clean(value)}")


def caller_add(
    session: Session,
    caller: Id,
    kind: Annotated[str, typer.Option(help="person or service")] = "person",
    org: Annotated[str | None, typer.Option(help="Whose.")] = None,
    nationality: Codes = None,
    latest_nationality: Codes = None,
    permanent_residence: CodesOrNone = None,
    legal_status: Annotated[
        list[str] | None, typer.Option(metavar="STATUS", help="Such as us-protected-individual; or none.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Until when this is known, with a zone, e.g. 2027-01-31T00:00:00Z."),
    ] = None,
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """Make a caller. What is left out is not known. Give it a key next: caller key add."""
    attributes = {
        "nationality": nationality,
        "latest_nationality": latest_nationality,
        "permanent_residence": _known(permanent_residence),
        "legal_status": _known(legal_status),
        "expires": expires,
    }
    given = {name: value for name, value in attributes.items() if value is not None}
    body = {"kind": kind, "org": org, "attributes": given}
    reply = session.client.create(f"/api/v1/callers/{segment(caller)}", body, wait)
    return session.changed(reply, f"ADDED {show.clean(caller)}")


def _known(values: list[str] | None) -> list[str] | None:
    """``none`` alone means known to be none.

    Raises:
        Failure: it stands beside others.
    """
    if values == [NONE]:
        return []
    if values and NONE in values:
        raise Failure(Exit.USAGE, "none stands alone")
    return values


def caller_put(session: Session, caller: Id, file: File, wait: Wait = DEFAULT_WAIT) -> Exit:
    """Make a caller from a file, or say anew what is known about it; its keys stay."""
    return put_file(session, f"/api/v1/callers/{segment(caller)}", f"caller {caller}", file, wait)


def caller_remove(session: Session, caller: Id, wait: Wait = DEFAULT_WAIT) -> Exit:
    """Remove a caller and its keys."""
    return remove(session, f"/api/v1/callers/{segment(caller)}", caller, wait)


def key_add(
    session: Session,
    caller: Id,
    note: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """Make a key. It is shown now and never again."""
    body = {} if note is None else {"note": note}
    reply = session.client.post(f"/api/v1/callers/{segment(caller)}/keys", body, wait)
    return session.changed(reply, f"KEY ADDED to {show.clean(caller)}", more=_key)


def _key(body: dict[str, Any]) -> None:
    print(f"key {body['key_id']}, shown once:\n{body['key']}")


def key_remove(
    session: Session, caller: Id, key: Annotated[str, typer.Argument(help="The key's id.")], wait: Wait = DEFAULT_WAIT
) -> Exit:
    """Delete a key."""
    reply = session.client.delete(f"/api/v1/callers/{segment(caller)}/keys/{segment(key)}", wait=wait)
    return session.changed(reply, f"KEY REMOVED from {show.clean(caller)}")


# ------------------------------------------------------------------------------------------------ operators


def operator_list(session: Session) -> Exit:
    """Every operator."""
    return session.show(session.client.get("/api/v1/operators"), _operators)


def _operators(answer: dict[str, Any]) -> None:
    rows = [(one["id"], ", ".join(one["roles"]), one.get("counts_as")) for one in answer["operators"]]
    show.table(("OPERATOR", "ROLES", "COUNTS AS"), rows)


def operator_add(
    session: Session,
    operator: Id,
    role: Annotated[list[str], typer.Option(help="viewer, operator, approver, registrar, auditor. May be repeated.")],
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """Make an operator. The token is shown now and never again."""
    reply = session.client.create(f"/api/v1/operators/{segment(operator)}", {"roles": role}, wait)
    return session.changed(reply, f"ADDED {show.clean(operator)}", more=_token)


def operator_token(session: Session, operator: Id, wait: Wait = DEFAULT_WAIT) -> Exit:
    """Replace an operator's token. The new one is shown now and never again."""
    reply = session.client.post(f"/api/v1/operators/{segment(operator)}/token", {}, wait)
    return session.changed(reply, f"TOKEN REPLACED of {show.clean(operator)}", more=_token)


def operator_vouch(session: Session, operator: Id, wait: Wait = DEFAULT_WAIT) -> Exit:
    """Say that an operator whom others appointed is a person with a token that nobody else has."""
    reply = session.client.post(f"/api/v1/operators/{segment(operator)}/vouch", {}, wait)
    return session.changed(reply, f"VOUCHED for {show.clean(operator)}")


def _token(body: dict[str, Any]) -> None:
    print(f"token, shown once:\n{body['token']}")


def operator_remove(session: Session, operator: Id, wait: Wait = DEFAULT_WAIT) -> Exit:
    """Remove an operator; the token works no longer."""
    return remove(session, f"/api/v1/operators/{segment(operator)}", operator, wait)


def remove(session: Session, path: str, name: str, wait: float) -> Exit:
    """Remove what is there now, and nothing that replaced it in between."""
    there = session.client.get(path)
    if not there.ok:
        return session.changed(there, "")
    return session.changed(session.client.delete(path, there.etag, wait), f"REMOVED {show.clean(name)}")
