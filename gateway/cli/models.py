"""Off and on: ``status``, ``offline``, ``online``, ``undo``, ``holds``."""

import os
import sys
from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.client import DEFAULT_WAIT, segment
from gateway.cli.exits import Exit, Failure
from gateway.cli.session import DryRun, Session, Wait, command

Models = Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Ids, or any other names of models.")]
Patterns = Annotated[
    list[str] | None,
    typer.Option(help="Also models by a glob, family:…, tag:…, provider:… or *; those added later too."),
]
Note = Annotated[str | None, typer.Option(help="Why. Never leaves the gateway.")]
PublicMessage = Annotated[str | None, typer.Option(help="What the refused may read.")]
Order = Annotated[str | None, typer.Option(help="The id of an order that is there.")]
Authority = Annotated[str | None, typer.Option(help="Who ordered it; with --reference.")]
Reference = Annotated[str | None, typer.Option(help="The order's number or title.")]
OrderUrl = Annotated[str | None, typer.Option(help="Where the order can be read.")]
Disclose = Annotated[bool, typer.Option("--disclose", help="The refused may learn of the order.")]
LetFinish = Annotated[float | None, typer.Option(min=0, help="Seconds that requests in flight may go on.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "status")(status)
    command(app, "offline")(offline)
    command(app, "online")(online)
    command(app, "undo")(undo)
    command(app, "holds")(holds)


# ------------------------------------------------------------------------------------------------ reading


def status(session: Session) -> Exit:
    """What is off, by whom, under which order; and the replicas."""
    client = session.client
    replies = {
        "models": client.get("/api/v1/models"),
        "orders": client.get("/api/v1/orders"),
        "replicas": client.get("/api/v1/replicas"),
    }
    return session.show_all(replies, _status)


def _status(answers: dict[str, Any]) -> None:
    models = answers["models"]["models"]
    orders = {order["id"]: order for order in answers["orders"]["orders"]}
    off = [model for model in models if model["state"] == "offline"]
    print(
        f"revision {answers['models']['revision']}{show.DOT}{len(off)} of {show.counted(len(models), 'model')} offline"
    )
    if off:
        rows = [_row(model, hold, orders) for model in off for hold in model["holds"]]
        show.table(("OFFLINE", "SINCE", "BY", "HOLD", "ORDER"), rows)
    print(_replicas(answers["replicas"]))


def _row(model: dict[str, Any], hold: dict[str, Any], orders: dict[str, Any]) -> tuple[object, ...]:
    order = orders.get(hold["order"])
    words = f"{order['authority']} {order['reference']} ({order['id']})" if order else hold["order"]
    return model["id"], show.when(hold["at"]), hold["by"], hold["id"], words


def _replicas(answer: dict[str, Any]) -> str:
    live = [replica for replica in answer["replicas"] if replica["state"] == "live"]
    if not live:
        return "NO REPLICA: nothing is served, and nothing is enforced"
    current = sum(replica["swept"] == answer["revision"] for replica in live)
    return f"{current} of {show.counted(len(live), 'replica')} enforce revision {answer['revision']}"


def holds(session: Session) -> Exit:
    """Every hold that stands, newest first."""
    return session.show(session.client.get("/api/v1/holds"), _holds)


def _holds(answer: dict[str, Any]) -> None:
    rows = [
        (hold["id"], " ".join(hold["models"]), show.when(hold["at"]), hold["by"], hold["order"], hold["note"])
        for hold in answer["holds"]
    ]
    show.table(("HOLD", "MODELS", "SINCE", "BY", "ORDER", "NOTE"), rows)
    here = [hold["id"] for hold in answer["holds"] if show.is_local(hold)]
    if here:
        print(f"ON THIS MACHINE ONLY, until Redis has them: {show.clean(', '.join(here))}")
    if answer.get("redis"):
        print(f"Redis is {show.clean(answer['redis'])}: this is what was known last", file=sys.stderr)


# ------------------------------------------------------------------------------------------------ off


def offline(
    session: Session,
    models: Models = None,
    pattern: Patterns = None,
    note: Note = None,
    public_message: PublicMessage = None,
    order: Order = None,
    authority: Authority = None,
    reference: Reference = None,
    order_url: OrderUrl = None,
    disclose: Disclose = False,
    let_finish: LetFinish = None,
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """Take models offline, now, with one hold."""
    named = names(models, pattern)
    body: dict[str, Any] = {
        "models": named,
        "note": note,
        "public_message": public_message,
        "order": order_of(order, authority, reference, order_url, disclose=disclose),
        "in_flight": None if let_finish is None else {"let_finish": let_finish},
    }
    given = {name: value for name, value in body.items() if value is not None}
    reply = session.client.post("/api/v1/offline", given, wait)
    if not reply.ok:
        return session.changed(reply, "")
    hold = show.clean(reply.body["hold"])
    headline = show.clean(f"OFFLINE {', '.join(reply.body['models']) or 'nothing today'}")
    return session.changed(reply, headline, f"hold {hold} (undo: portcullis undo {hold})", more=_unmatched)


def names(models: list[str] | None, patterns: list[str] | None) -> list[str]:
    """Names and patterns together.

    Raises:
        Failure: there is none, or a pattern is among the names: it would take more offline than was meant.
    """
    for name in models or ():
        if "*" in name or "?" in name or name.startswith(("family:", "tag:", "provider:")):
            raise Failure(Exit.USAGE, f"{name!r} is a pattern; if you mean all it covers, say --pattern {name!r}")
    named = [*(models or ()), *(patterns or ())]
    if not named:
        raise Failure(Exit.USAGE, "say which model, or --pattern")
    return named


def order_of(
    order: str | None, authority: str | None, reference: str | None, url: str | None, *, disclose: bool
) -> str | dict[str, Any] | None:
    """An order's id, or one that is given here.

    Raises:
        Failure: half of one, or both.
    """
    parts = {"authority": authority, "reference": reference, "url": url, "disclose": disclose or None}
    inline = {name: value for name, value in parts.items() if value is not None}
    if order is not None and inline:
        raise Failure(Exit.USAGE, "say --order ID, or the order itself, not both")
    if inline and not (authority and reference):
        raise Failure(Exit.USAGE, "an order has --authority and --reference")
    return order or inline or None


def _unmatched(body: dict[str, Any]) -> None:
    for pattern, matched in body.get("matches", {}).items():
        if not matched:
            print(f"{show.clean(pattern)} means no model today; it will cover those added later", file=sys.stderr)


# ------------------------------------------------------------------------------------------------ on


def online(
    session: Session,
    model: Annotated[str, typer.Argument(help="Its id, or any other name.")],
    hold: Annotated[str | None, typer.Option(help="Release only this hold.")] = None,
    only: Annotated[
        str | None, typer.Option(metavar="TERM", help="Only for those of whom this term is true, under the same order.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="Why, for whoever approves it; with --only.")] = None,
    public_message: Annotated[str | None, typer.Option(help="What the others may read; with --only.")] = None,
    dry_run: DryRun = False,
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """Release the holds on exactly this model. It comes back when none is left; exit code 6 says that one is."""
    if only is not None or dry_run:
        return _staged(
            session, model, hold, only, {"note": note, "public_message": public_message}, wait, try_out=dry_run
        )
    if note is not None or public_message is not None:
        raise Failure(Exit.USAGE, "--note and --public-message go with --only")
    body = {} if hold is None else {"hold": hold}
    reply = session.client.post(f"/api/v1/models/{segment(model)}/online", body, wait)
    return session.changed(reply, _released(reply.body))


def _staged(
    session: Session,
    model: str,
    hold: str | None,
    only: str | None,
    words: dict[str, str | None],
    wait: float,
    *,
    try_out: bool,
) -> Exit:
    """Off for all becomes off for some, in one change: the holds go, a directive comes under the same order."""
    shown, standing = session.client.get(f"/api/v1/models/{segment(model)}"), session.client.get("/api/v1/holds")
    if not (shown.ok and standing.ok):
        return session.changed(standing if shown.ok else shown, "")
    model_id = shown.body["id"]
    here = {on_it["id"] for on_it in shown.body["holds"]}
    gone = [each for each in standing.body["holds"] if _is_meant(each, here, model_id, hold)]
    if not gone:
        others = ", ".join(sorted(here))
        message = f"is held by {others}, which also covers others; name it with --hold" if here else "is not offline"
        return session.refuse(f"{model_id} {message}", Exit.STILL_OFF if here else Exit.REFUSED)
    edits = [{"op": "delete", "kind": "holds", "id": each["id"]} for each in gone]
    if only is not None:
        edits += _directives(gone, only, words)
    if try_out:
        return session.tried(edits)
    given = {"edits": edits, "note": words["note"]}
    reply = session.client.post("/api/v1/changes", {name: value for name, value in given.items() if value}, wait)
    return session.changed(reply, show.clean(f"ONLINE {model_id} only for {only}"))


def _is_meant(held: dict[str, Any], here: set[str], model_id: str, named: str | None) -> bool:
    return held["id"] in here and (held["models"] == [model_id] if named is None else held["id"] == named)


def _directives(gone: list[dict[str, Any]], only: str, words: dict[str, str | None]) -> list[dict[str, Any]]:
    """A directive for each order that the holds stand under, on the same models; without any, one under none."""
    orders = sorted({held["order"] for held in gone if held["order"]}) or [None]
    said = next((held["public_message"] for held in gone if held["public_message"]), None)
    body = {
        "models": sorted({pattern for held in gone for pattern in held["models"]}),
        "who": {"not": {"term": only}},
        "state": "in_force",
        "note": words["note"],
        "public_message": words["public_message"] or said,
    }
    return [{"op": "put", "kind": "directives", "id": new_id(), "body": {**body, "order": order}} for order in orders]


def new_id() -> str:
    """An id for a directive whose maker names none."""
    return f"d-{os.urandom(4).hex()}"


def undo(
    session: Session,
    hold: Annotated[str | None, typer.Argument(metavar="[HOLD]", help="By default, your newest.")] = None,
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """Take back your own hold, within minutes of placing it, also under an order."""
    if hold is None:
        mine = session.client.get("/api/v1/holds", by="me")
        if not mine.ok:
            return session.show(mine, _holds)
        if not mine.body["holds"]:
            return session.refuse("no hold that stands is yours")
        hold = str(mine.body["holds"][0]["id"])
    reply = session.client.post(f"/api/v1/holds/{segment(hold)}/undo", {}, wait)
    return session.changed(reply, _released(reply.body))


def _released(body: Any) -> str:
    """What came back, and which holds are gone."""
    if not isinstance(body, dict) or "released" not in body:
        return ""
    off = {held["model"] for held in body["still_held"]}
    back = [model for model in body["models"] if model not in off]
    gone = f"released {', '.join(body['released'])}"
    return show.clean(f"ONLINE {', '.join(back)}{show.DOT}{gone}" if back else gone.capitalize())
