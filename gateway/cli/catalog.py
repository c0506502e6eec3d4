"""The catalog beside what providers list: ``catalog drift``, ``catalog adopt``."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.client import DEFAULT_WAIT
from gateway.cli.exits import Exit
from gateway.cli.session import Session, Wait, command


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(
        help="Models that providers have and the catalog has not.", no_args_is_help=True, rich_markup_mode=None
    )
    app.add_typer(group, name="catalog")
    command(group, "drift")(drift)
    command(group, "adopt")(adopt)


def drift(session: Session) -> Exit:
    """Compare the catalog with each provider's own list, and with the names that were refused lately as unknown."""
    return session.show(session.client.get("/api/v1/catalog/drift"), _drift)


def _drift(answer: dict[str, Any]) -> None:
    rows = [
        (each["name"], provider, "listed", " or ".join(each["like"]))
        for provider, found in answer["providers"].items()
        for each in found["missing"]
    ]
    rows += [
        (
            each["name"],
            each["provider"],
            f"refused {each['times']} times, last {_time(each['last'])}",
            " or ".join(each["like"]),
        )
        for each in answer["refused"]
    ]
    if rows:
        show.table(("NOT IN THE CATALOG", "PROVIDER", "HOW IT IS KNOWN", "LIKE"), rows)
        print("adopt one: portcullis catalog adopt NAME [--like ID] [--provider NAME]")
    else:
        print("the catalog has every name that was listed or asked for")
    gone = [(model, provider) for provider, found in answer["providers"].items() for model in found["gone"]]
    if gone:
        show.table(("NOT LISTED ANY MORE", "PROVIDER"), gone)
    for provider, found in answer["providers"].items():
        if found["trouble"]:
            print(show.clean(f"{provider} was not compared: {found['trouble']}"))


def _time(seconds: float) -> str:
    return show.when(datetime.fromtimestamp(seconds, UTC).isoformat())


def adopt(
    session: Session,
    name: Annotated[str, typer.Argument(help="As requests give it.")],
    like: Annotated[str | None, typer.Option(metavar="ID", help="The model it is another name of.")] = None,
    provider: Annotated[str | None, typer.Option(help="Where it has this name.")] = None,
    wait: Wait = DEFAULT_WAIT,
) -> Exit:
    """Make a name another name of a model: it is under all that restricts that one, today and later."""
    given = {"name": name, "like": like, "provider": provider}
    reply = session.client.post("/api/v1/catalog/adopt", {key: value for key, value in given.items() if value}, wait)
    if not reply.ok or not isinstance(reply.body, dict) or "adopted" not in reply.body:
        return session.changed(reply, show.clean(f"ADOPTED {name}"))
    body = reply.body
    headline = show.clean(f"ADOPTED {name} as {body['like']} at {body['provider']}")
    return session.changed(reply, headline, more=_restricted)


def _restricted(body: dict[str, Any]) -> None:
    by = [*body["restricted_by"]["holds"], *body["restricted_by"]["directives"]]
    what = f"restricted as {body['like']} is, by {', '.join(by)}" if by else f"nothing restricts {body['like']} today"
    print(show.clean(f"{what}; what will restrict {body['like']} restricts it too"))
