"""What is enforced: ``replicas`` (and their restart), ``receipt``, ``policy``; and whether it works: ``drill``."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.client import DEFAULT_WAIT, segment
from gateway.cli.exits import Exit
from gateway.cli.session import Config, Session, Wait, code_of, command


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "replicas")(replicas)
    command(app, "receipt")(receipt)
    command(app, "drill")(drill)
    command(app, "drills")(drills)
    policies = typer.Typer(
        help="The policy in force, and the one remembered.", no_args_is_help=True, rich_markup_mode=None
    )
    app.add_typer(policies, name="policy")
    command(policies, "show")(policy_show)
    policies.command("restore")(policy_restore)


class Action(StrEnum):
    """What can be done with replicas."""

    RESTART = "restart"


Do = Annotated[Action | None, typer.Argument(help="Replace that machine's workers; no connection is dropped.")]


def replicas(session: Session, action: Do = None, wait: Wait = DEFAULT_WAIT) -> Exit:
    """Every replica, and which revision it enforces."""
    if action is Action.RESTART:
        return session.show(session.client.post("/api/v1/replicas:restart", {}, wait), _restarted)
    return session.show(session.client.get("/api/v1/replicas"), _replicas)


def _replicas(answer: dict[str, Any]) -> None:
    columns = ("id", "state", "swept", "draining", "host", "version", "incarnation")
    rows = [[replica[column] for column in columns] for replica in answer["replicas"]]
    show.table([column.upper() for column in columns], rows)
    show.nacks(answer["replicas"])


def _restarted(answer: dict[str, Any]) -> None:
    if answer["state"] == "restarted":
        print(f"RESTARTED {show.counted(answer['replaced'], 'worker')}")
    else:
        print("RESTARTING, but not done yet (see: portcullis replicas)")


def receipt(session: Session, revision: Annotated[int, typer.Argument(min=1)]) -> Exit:
    """The proof that a revision is enforced. Exit code 4 says that it is not, or not yet."""
    reply = session.client.get(f"/api/v1/receipts/{segment(str(revision))}")
    shown = session.show(reply, _receipt)
    return code_of(reply) if shown is Exit.DONE else shown


def _receipt(body: dict[str, Any]) -> None:
    about = ", ".join(body["models"]) or "no model"
    print(show.receipt_line(show.clean(f"{about}{show.DOT}{body['committed_at']}"), body))
    columns = ("id", "state", "ms", "streams_cut", "incarnation")
    show.table(
        [column.upper() for column in columns],
        [[member[column] for column in columns] for member in body["replicas"]["list"]],
    )
    show.nacks(body["replicas"]["list"])


POLL_SECONDS = 0.2
_PAUSE = time.sleep


def drill(session: Session) -> Exit:
    """Take the canary off and on, end to end, and say what each step took. Exit code 4 says that it failed."""
    reply = session.client.post("/api/v1/drills", {}, wait=0)
    shown = 0
    while reply.ok and reply.body["state"] == "running":
        shown = _steps(session, reply.body, shown)
        _PAUSE(POLL_SECONDS)
        reply = session.client.get(f"/api/v1/drills/{segment(reply.body['drill'])}")
    if not reply.ok:
        return session.show(reply, lambda _: None)
    _steps(session, reply.body, shown)
    ended = session.show(reply, _ended)
    return ended if reply.body["state"] == "passed" else Exit.NOT_ENFORCED


def _steps(session: Session, body: dict[str, Any], shown: int) -> int:
    """Print the steps that are new; how many are shown by then."""
    for step in body["steps"][shown:]:
        if not session.as_json:
            more = [f"{name} {step[name]}" for name in ("revision", "basis", "replicas", "streams") if name in step]
            print(show.clean(f"{step['step']:16} {step['ms']:9.1f} ms  {show.DOT.join(more)}"), flush=True)
    return len(body["steps"])


def _ended(body: dict[str, Any]) -> None:
    why = f"{show.DOT}{body['failure']}" if "failure" in body else ""
    print(show.clean(f"DRILL {body['state'].upper()} {body['model']}{show.DOT}{body['drill']}{why}"))


def drills(session: Session) -> Exit:
    """The last drills of all machines, newest first."""
    return session.show(session.client.get("/api/v1/drills"), _drills)


def _drills(answer: dict[str, Any]) -> None:
    every = f"every {answer['every']:g} s" if answer["every"] else "by hand"
    print(show.clean(f"canary {answer['model'] or 'none (drill.model)'}{show.DOT}{every}"))
    rows = [
        (each["drill"], show.when(each["at"]), each["by"], each["state"], *_times(each), each.get("failure"))
        for each in answer["drills"]
    ]
    show.table(("DRILL", "AT", "BY", "STATE", "ENFORCED MS", "CUT MS", "FAILURE"), rows)


def _times(body: dict[str, Any]) -> tuple[Any, Any]:
    """After how many milliseconds the kill was enforced, and the streams had ended."""
    took = {step["step"]: step["ms"] for step in body["steps"]}
    return took.get("offline"), took.get("cut")


def policy_show(
    session: Session,
    remembered: Annotated[
        bool, typer.Option("--remembered", help="What this machine's workers applied last; asks nobody.")
    ] = False,
    config: Config = None,
) -> Exit:
    """The policy document in force, as JSON."""
    if remembered:
        from gateway.cli import machine  # noqa: PLC0415 - it imports the whole gateway

        machine.show_remembered(config, as_json=session.as_json)
        return Exit.DONE
    return session.show(session.client.get("/api/v1/policy"), lambda body: print(json.dumps(body, indent=2)))


def policy_restore(
    config: Config = None,
    seeds: Annotated[
        Path | None, typer.Option(help="Whom an empty Redis gets as operators and callers; as for init.")
    ] = None,
    operator: Annotated[str, typer.Option(help="The approver that an empty Redis gets without seeds.")] = "admin",
    replacing: Annotated[
        bool, typer.Option("--replacing", help="Also where Redis has restrictions that are not remembered.")
    ] = False,
) -> None:
    """Put what this machine remembers back into a Redis that is empty or behind, under a new epoch."""
    from gateway.cli import machine  # noqa: PLC0415 - it imports the whole gateway

    machine.restore_policy(config, seeds, operator, replacing=replacing)
