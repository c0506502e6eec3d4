"""Questions: ``explain`` and ``reach``."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.client import segment
from gateway.cli.exits import Exit, Failure
from gateway.cli.restrict import parsed
from gateway.cli.session import Session, command


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "explain")(explain)
    command(app, "reach")(reach)
    command(app, "why")(why)


def explain(
    session: Session,
    words: Annotated[list[str], typer.Argument(metavar="[CALLER] MODEL")],
    attributes: Annotated[
        str | None, typer.Option(metavar="JSON", help='Instead of a caller: {"nationality": ["GB"]}')
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Where; by default the model's first.")] = None,
    on_behalf_of: Annotated[str | None, typer.Option(metavar="CALLER", help="The end user it asks for.")] = None,
) -> Exit:
    """Whether somebody may have a model, and why."""
    *caller, model = words
    if len(caller) != (attributes is None):
        raise Failure(Exit.USAGE, "say CALLER MODEL, or --attributes JSON MODEL")
    body: dict[str, Any] = {"model": model, "provider": provider, "on_behalf_of": on_behalf_of}
    if attributes is None:
        body["caller"] = caller[0]
    else:
        body["attributes"] = parsed(attributes, "--attributes")
    given = {name: value for name, value in body.items() if value is not None}
    return session.show(session.client.ask("/api/v1/explain", given), _explained)


def why(session: Session, request_id: str) -> Exit:
    """Why a request was refused: by the id in Portcullis-Request-Id, or in the refusal."""
    return session.show(session.client.get(f"/api/v1/refusals/{segment(request_id)}"), _refused)


def _refused(body: dict[str, Any]) -> None:
    what = show.DOT.join(str(body[name]) for name in ("model", "reason", "restriction", "order") if body.get(name))
    print(show.clean(f"REFUSED {what}"))
    for name in ("provider", "operation", "caller", "org", "status", "revision", "time"):
        if body.get(name) is not None:
            print(show.clean(f"  {name}: {body[name]}"))


def _explained(body: dict[str, Any]) -> None:
    parts = [f"{body['decision'].upper()} {body['asked']['name']} at {body['asked']['provider']}"]
    if body["decision"] == "deny":
        parts.append(f"{body['reason']} by {body['restriction']}" if body["restriction"] else body["reason"])
        parts += [f"order {body['order']}"] if body["order"] else []
    print(show.clean(show.DOT.join(parts)))
    for model in body["trace"]:
        if model.get("hold"):
            print(show.clean(f"hold {model['hold']}: on {model['model']}, for everyone"))
        for directive in model.get("directives", ()):
            print(show.clean(f"directive {directive['id']}: applies: {directive['applies']}"))
            for subject in directive["as"]:
                for line in (
                    *_lines(subject["who"], 1),
                    *(each for e in subject["except"] for each in _lines(e, 1, "except ")),
                ):
                    print(show.clean(line))


def _lines(node: dict[str, Any], depth: int, before: str = "") -> Iterator[str]:
    """A condition and what it is made of, a line each."""
    yield f"{'  ' * depth}{before}{node['condition']}: {node['holds']}"
    for part in node.get("because", ()):
        yield from _lines(part, depth + 1)


def reach(session: Session, model: Annotated[str, typer.Argument(help="Its id, or any other name.")]) -> Exit:
    """Who may use a model: everyone there can be, and the registered callers."""
    return session.show(session.client.get(f"/api/v1/models/{segment(model)}/reach"), _reach)


def _reach(body: dict[str, Any]) -> None:
    may, callers = body["permitted"], body["callers"]
    print(show.clean(f"{body['model']}{show.DOT}revision {body['revision']}"))
    print(show.clean(f"of {callers['looked_at']} callers may: {show.callers(callers['permitted'])}"))
    print(f"of {show.counted(body['profiles'], 'profile')} may: {may['profiles']}")
    show.examples(may["examples"])
