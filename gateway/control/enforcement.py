"""What is proven: replicas, receipts, and the policy they are about."""

import asyncio
import contextlib
import dataclasses
from typing import Any

import structlog
from aiohttp import web

from gateway import tasks
from gateway.control.access import Access
from gateway.control.conditions import etag
from gateway.control.drills import Drills
from gateway.control.problems import NotFound
from gateway.control.routing import WAIT, Call, Empty, Route, answer
from gateway.enforcement.replica import read_nack

_log = structlog.get_logger("portcullis.control")


def view(member: str, said: dict[str, Any]) -> dict[str, Any]:
    """A replica, as it last spoke; one that was never heard of but left has no more than its name."""
    name, _, incarnation = member.partition(":")
    told = {field: said.get(field) for field in ("rev", "swept", "draining", "streams_cut", "host", "version")}
    nack = read_nack(said.get("nack", ""))
    more = {"nack": nack} if nack else {}
    return {"id": name, "incarnation": incarnation, "state": "left" if said.get("left") else "live", **told, **more}


async def replicas(call: Call[Empty]) -> web.Response:
    """Every replica that Redis lists; those that left stay for an hour."""
    store = call.context.store
    current = await store.current()
    members = sorted((await store.members()).items())
    return answer({"revision": current.rev, "replicas": [view(member, said) for member, said in members]})


RESTART_WAIT = dataclasses.replace(
    WAIT, summary="Seconds to wait until every worker is replaced; 202 if they are not by then."
)


async def restart(call: Call[Empty]) -> web.Response:
    """Replace this machine's workers one after the other; no connection is dropped."""
    replace = call.context.restart
    if replace is None:
        raise NotFound("There are no workers here.")
    _log.info("restart_asked", by=call.by.id)
    replacing = tasks.spawn(replace(), "restart", awaited=True)
    await asyncio.wait((replacing,), timeout=call.query["wait"])
    if not replacing.done():
        replacing.add_done_callback(lambda task: task.exception())  # the log has it
        return answer({"state": "restarting"}, 202)
    return answer({"state": "restarted", "replaced": replacing.result()})


async def receipt(call: Call[Empty]) -> web.Response:
    """The receipt of a revision, closed or still open."""
    number = call.request.match_info["revision"]
    found = await call.context.receipts.get(int(number)) if number.isdecimal() and len(number) < 16 else None
    if found is None:
        raise NotFound(f"There is no receipt for revision {number!r}.")
    return answer(found)


async def policy(call: Call[Empty]) -> web.Response:
    """The policy document in force; the headers say which revision, and the hash of its entry in the log."""
    current = await call.context.store.current()
    document = current.document.model_dump(mode="json", by_alias=True, exclude_none=True)
    return answer(
        document,
        ETag=etag(current.rev),
        Portcullis_Revision=str(current.rev),
        Portcullis_Epoch=current.position.epoch,
        Portcullis_Hash=current.position.hash,
    )


# ------------------------------------------------------------------------------------------------ drills


def _drills(call: Call[Empty]) -> Drills:
    if call.context.drills is None:
        raise NotFound("There is no data plane here to drill.")
    return call.context.drills


async def drills(call: Call[Empty]) -> web.Response:
    """The last drills of all machines, newest first."""
    setting = call.context.settings.drill
    return answer({"model": setting.model, "every": setting.every, "drills": await _drills(call).listing()})


async def drill(call: Call[Empty]) -> web.Response:
    """One drill, as far as it has come."""
    found = await _drills(call).get(call.id)
    if found is None:
        raise NotFound(f"There is no drill {call.id!r}. GET /api/v1/drills lists the last ones.")
    return answer(found)


async def begin_drill(call: Call[Empty]) -> web.Response:
    """Take the canary off and on, end to end."""
    begun = await _drills(call).start(call.by.id)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(begun.done.wait(), call.query["wait"])
    place = f"/api/v1/drills/{begun.id}"
    return answer(begun.view(), 200 if begun.done.is_set() else 202, Location=place)


DRILL_WAIT = dataclasses.replace(WAIT, summary="Seconds to wait until it has ended; 202 if it has not by then.")

ROUTES = (
    Route("GET", "/api/v1/drills", Access.READ, drills, "The last drills, newest first"),
    Route("GET", "/api/v1/drills/{id}", Access.READ, drill, "One drill, as far as it has come"),
    Route(
        "POST",
        "/api/v1/drills",
        Access.OPERATE,
        begin_drill,
        "Take the canary off and on, end to end, and measure it",
        query=(DRILL_WAIT,),
    ),
    Route("GET", "/api/v1/replicas", Access.READ, replicas, "Every replica, and what it enforces"),
    Route(
        "POST",
        "/api/v1/replicas:restart",
        Access.OPERATE,
        restart,
        "Replace this machine's workers, with the settings as they are now",
        query=(RESTART_WAIT,),
    ),
    Route("GET", "/api/v1/receipts/{revision}", Access.READ, receipt, "The proof that a revision is enforced"),
    Route("GET", "/api/v1/policy", Access.READ, policy, "The policy document in force"),
)
