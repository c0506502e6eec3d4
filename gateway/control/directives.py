"""Directives: conditional restrictions, from draft to lifted. PUT edits one; its state has calls of its own."""

from typing import Any

from aiohttp import web

from gateway.control import nouns
from gateway.control.access import Access
from gateway.control.changes import Change, apply, of_edits
from gateway.control.edits import edit
from gateway.control.idempotency import Operation
from gateway.control.problems import Conflict
from gateway.control.routing import Call, Empty, Route
from gateway.control.shapes import DirectiveBody, StateBody
from gateway.enforcement.store import Current
from gateway.policy.document import Directive, State, rfc3339


def _covers(current: Current, directive_id: str) -> dict[str, Any]:
    """The models that a directive means today."""
    return {"covers": current.snapshot.covered(current.document.directives[directive_id].models)}


DIRECTIVE = nouns.Noun("directives", _covers)


async def listing(call: Call[Empty]) -> web.Response:
    """Every directive."""
    return await nouns.listing(call, DIRECTIVE)


async def get(call: Call[Empty]) -> web.Response:
    """One directive."""
    return await nouns.get(call, DIRECTIVE)


async def put(call: Call[DirectiveBody]) -> web.Response:
    """Create a directive, in any state but lifted, or replace it in the state it has."""
    return await nouns.put(call, DIRECTIVE)


async def delete(call: Call[Empty]) -> web.Response:
    """Remove a draft."""
    return await nouns.delete(call, DIRECTIVE)


# ------------------------------------------------------------------------------------------------ states


async def shadow(call: Call[Empty]) -> web.Response:
    """Let a directive be counted and deny nothing."""
    return await _become(call, State.SHADOW)


async def enforce(call: Call[Empty]) -> web.Response:
    """Let a directive deny. As this closes something, it insists."""
    return await _become(call, State.IN_FORCE, insist=True)


async def lift(call: Call[Empty]) -> web.Response:
    """End a directive, for good."""
    return await _become(call, State.LIFTED)


async def reopen(call: Call[Empty]) -> web.Response:
    """Let the end of a directive's window lift it by itself. Under an order a second person has to agree."""

    async def compose(base: Current, _: Operation) -> Change:
        directive = DIRECTIVE.existing(base.document, call.id)
        if directive.window.until is None:
            raise Conflict(f"{call.id} has no end; give it one first (window.until).")
        wanted = edit("put", "directives", call.id, _with_end(directive))
        return await of_edits(
            call,
            base,
            wanted,
            action="directive.reopen",
            subject=f"directives/{call.id}",
            answer={"directive": call.id, "until": rfc3339(directive.window.until)},
        )

    return await apply(call, compose)


def _with_end(directive: Directive) -> DirectiveBody:
    """The directive as it would be put, but that its end lifts it."""
    fields = {name: getattr(directive, name) for name in directive.model_fields_set & DirectiveBody.model_fields.keys()}
    fields["window"] = directive.window.model_copy(update={"reopens": True})
    fields.pop("state", None)
    return DirectiveBody(**fields)


async def _become(call: Call[Empty], state: State, *, insist: bool = False) -> web.Response:
    async def compose(base: Current, _: Operation) -> Change:
        DIRECTIVE.existing(base.document, call.id)
        wanted = edit("state", "directives", call.id, StateBody(state=state))
        return await of_edits(
            call,
            base,
            wanted,
            action=f"directive.{state}",
            subject=f"directives/{call.id}",
            answer={"directive": call.id, "directive_state": str(state)},
        )

    return await apply(call, compose, insist=insist)


ROUTES = (
    Route("GET", "/api/v1/directives", Access.READ, listing, "Every directive, and the models it covers"),
    Route("GET", "/api/v1/directives/{id}", Access.READ, get, "One directive"),
    Route(
        "PUT",
        "/api/v1/directives/{id}",
        Access.OPERATE,
        put,
        "Create a directive, or replace it in the state it has",
        body=DirectiveBody,
        changes=True,
        conditional=True,
    ),
    Route(
        "DELETE", "/api/v1/directives/{id}", Access.OPERATE, delete, "Remove a draft", changes=True, conditional=True
    ),
    Route(
        "POST",
        "/api/v1/directives/{id}/shadow",
        Access.OPERATE,
        shadow,
        "Count whom it would deny, and deny nobody",
        changes=True,
    ),
    Route("POST", "/api/v1/directives/{id}/enforce", Access.OPERATE, enforce, "Put it in force", changes=True),
    Route(
        "POST",
        "/api/v1/directives/{id}/reopen",
        Access.OPERATE,
        reopen,
        "Let its end lift it by itself; under an order a second person agrees",
        changes=True,
    ),
    Route("POST", "/api/v1/directives/{id}/lift", Access.OPERATE, lift, "End it, for good", changes=True),
)
