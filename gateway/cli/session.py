"""A command's session: the client, and the way its answer is shown."""

import contextlib
import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from gateway.cli import show
from gateway.cli.client import Client, Reply
from gateway.cli.exits import Exit, Failure
from gateway.cli.target import find

Json = Annotated[bool, typer.Option("--json", help="Print the gateway's answer as it is.")]
Profile = Annotated[str | None, typer.Option(help="The gateway and token of ~/.config/portcullis/config.toml.")]
Config = Annotated[Path | None, typer.Option(help="The settings file; by default config/portcullis.toml if there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say who would gain and who would lose.")]
Wait = Annotated[float, typer.Option(min=0, max=120, help="Seconds to wait until it is proven.")]

P = ParamSpec("P")


class Session:
    """Talks to the gateway and to whoever called the command."""

    def __init__(self, profile: str | None, *, as_json: bool) -> None:
        self._profile = profile
        self.as_json = as_json

    @functools.cached_property
    def client(self) -> Client:
        """The gateway's, made when it is first asked."""
        return Client(find(self._profile))

    def close(self) -> None:
        """Hang up, if there is a connection."""
        if "client" in self.__dict__:
            self.client.close()

    def show(self, reply: Reply, people: Callable[[Any], None]) -> Exit:
        """Print what was read: raw, or for people."""
        if self.as_json or not reply.ok:
            return self._raw_or_problem(reply)
        people(reply.body)
        return Exit.DONE

    def show_all(self, replies: Mapping[str, Reply], people: Callable[[dict[str, Any]], None]) -> Exit:
        """Print several answers as one."""
        for reply in replies.values():
            if not reply.ok:
                return self._raw_or_problem(reply)
        bodies = {name: reply.body for name, reply in replies.items()}
        if self.as_json:
            print(json.dumps(bodies))
        else:
            people(bodies)
        return Exit.DONE

    def changed(self, reply: Reply, headline: str, *tail: str, more: Callable[[Any], None] = lambda _: None) -> Exit:
        """Print the receipt of a change: what was done, and whether it is enforced; then ``more`` of the answer."""
        if self.as_json or not reply.ok:
            return self._raw_or_problem(reply)
        if show.is_waiting(reply.body):
            show.waiting(reply.body)
            return code_of(reply)
        if show.is_local(reply.body):
            show.local(headline, reply.body, *tail)
            show.still_off(reply.body)
            return code_of(reply)
        print(show.receipt_line(headline, reply.body, *tail))
        more(reply.body)
        show.still_off(reply.body)
        return code_of(reply)

    def tried(self, edits: list[dict[str, Any]]) -> Exit:
        """Print what edits would do."""
        return self.show(self.client.ask("/api/v1/changes", {"edits": edits}, dry_run="true"), show.preview)

    def refuse(self, message: str, code: Exit = Exit.REFUSED) -> Exit:
        """Say why nothing was done."""
        print(f"portcullis: {message}", file=sys.stderr)
        return code

    def _raw_or_problem(self, reply: Reply) -> Exit:
        if self.as_json:
            print(reply.text)
        else:
            show.problem(reply)
        return code_of(reply)


def code_of(reply: Reply) -> Exit:
    """The exit code that an answer means."""
    body = reply.body if isinstance(reply.body, dict) else {}
    if reply.status in (401, 403):
        return Exit.NOT_ALLOWED
    if show.is_waiting(body):
        return Exit.AWAITING_APPROVAL
    if body.get("still_held"):
        return Exit.STILL_OFF
    if not reply.ok:
        return Exit.REFUSED
    if show.is_local(body):
        return Exit.THIS_MACHINE_ONLY
    return Exit.DONE if body.get("enforced", True) or "basis" not in body else Exit.NOT_ENFORCED


def command(app: typer.Typer, name: str, **settings: Any) -> Callable[[Callable[Concatenate[Session, P], Exit]], None]:
    """Register a command. The function gets a session; ``--json`` and ``--profile`` come by themselves."""

    def register(function: Callable[Concatenate[Session, P], Exit]) -> None:
        own = list(inspect.signature(function).parameters.values())[1:]
        common = [_option("json", Json, default=False), _option("profile", Profile, default=None)]

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            as_json, profile = bool(kwargs.pop("json")), kwargs.pop("profile")
            try:
                session = Session(profile if isinstance(profile, str) else None, as_json=as_json)
                with contextlib.closing(session):
                    code = function(session, *args, **kwargs)
            except Failure as failure:
                print(f"portcullis: {failure}", file=sys.stderr)
                code = failure.code
            raise typer.Exit(code)

        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        run.__signature__ = inspect.Signature([*keyword, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*keyword, *common)}
        app.command(name, **settings)(run)

    return register


def _option(name: str, annotation: Any, *, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
