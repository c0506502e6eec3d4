"""What the policy is made of: ``directive``, ``term``, ``group``, ``org``, ``order``: list, show, put, remove."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import orders, show
from gateway.cli.client import DEFAULT_WAIT, segment
from gateway.cli.exits import Exit
from gateway.cli.files import File, put_file
from gateway.cli.people import remove
from gateway.cli.session import Session, Wait, command

Id = Annotated[str, typer.Argument(metavar="ID")]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "directive": ("id", "state", "models", "order", "by", "at", "note"),
    "term": ("id", "used_by", "source"),
    "group": ("id", "countries", "as_of", "used_by", "source"),
    "org": ("id", "name", "country", "end_users"),
    "order": ("id", "progress", "authority", "reference", "holds", "directives"),
}
"""What a list shows of each noun."""

HELP = {
    "directive": "Conditional restrictions. restrict and lift make and end them.",
    "term": "Named conditions, such as us-person.",
    "group": "Named sets of countries.",
    "org": "Organisations, and what they attest about their users.",
    "order": "The legal or internal acts behind restrictions.",
}
STATES = {"shadow": "Count whom it would deny, and deny nobody.", "enforce": "Put it in force."}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for noun, summary in HELP.items():
        group = typer.Typer(help=summary, no_args_is_help=True, rich_markup_mode=None)
        app.add_typer(group, name=noun)
        for name, make in (("list", _list), ("show", _show), ("put", _put), ("remove", _remove)):
            command(group, name)(make(noun))
        if noun == "directive":
            for verb in STATES:
                command(group, verb)(_state(verb))
            orders.add_to_directives(group)
        if noun == "order":
            orders.add_to_orders(group)


def _path(noun: str, object_id: str = "") -> str:
    return f"/api/v1/{noun}s" + (f"/{segment(object_id)}" if object_id else "")


def _list(noun: str) -> Callable[[Session], Exit]:
    columns = COLUMNS[noun]

    def people(answer: dict[str, Any]) -> None:
        rows = [[_cell(each.get(column)) for column in columns] for each in answer[f"{noun}s"]]
        show.table([column.upper().replace("_", " ") for column in columns], rows)

    def every(session: Session) -> Exit:
        return session.show(session.client.get(_path(noun)), people)

    every.__doc__ = f"Every {noun}."
    return every


def _cell(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _show(noun: str) -> Callable[[Session, str], Exit]:
    def one(session: Session, object_id: Id) -> Exit:
        reply = session.client.get(_path(noun, object_id))
        return session.show(reply, lambda body: print(json.dumps(body, indent=2)))

    one.__doc__ = f"One {noun}, as JSON."
    return one


def _put(noun: str) -> Callable[[Session, str, Path, float], Exit]:
    def put(session: Session, object_id: Id, file: File, wait: Wait = DEFAULT_WAIT) -> Exit:
        return put_file(session, _path(noun, object_id), f"{noun} {object_id}", file, wait)

    put.__doc__ = f"Create or replace a {noun} from a file."
    return put


def _remove(noun: str) -> Callable[[Session, str, float], Exit]:
    def gone(session: Session, object_id: Id, wait: Wait = DEFAULT_WAIT) -> Exit:
        return remove(session, _path(noun, object_id), object_id, wait)

    gone.__doc__ = f"Remove a {noun}."
    return gone


def _state(verb: str) -> Callable[[Session, str, float], Exit]:
    def become(session: Session, object_id: Id, wait: Wait = DEFAULT_WAIT) -> Exit:
        reply = session.client.post(f"{_path('directive', object_id)}/{verb}", {}, wait)
        word = {"shadow": "IN SHADOW", "enforce": "IN FORCE"}[verb]
        return session.changed(reply, f"{word} {show.clean(object_id)}")

    become.__doc__ = STATES[verb]
    return become
