"""Questions about the policy: may this caller have this model, and why; who may have it at all."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Self

from aiohttp import web
from pydantic import model_validator

from gateway.control import callers
from gateway.control.access import Access
from gateway.control.catalog import meant
from gateway.control.preview import MAX_EXAMPLES, Known, a_name, counted, known
from gateway.control.problems import NotEnumerable, NotFound
from gateway.control.routing import Call, Empty, Route, answer
from gateway.control.shapes import KnownAttributes, ModelName
from gateway.control.words import Vocabulary, shown
from gateway.enforcement.store import Store
from gateway.identity.records import CallerRecord
from gateway.policy.caller import Caller, Facts, Kind
from gateway.policy.decision import Permit
from gateway.policy.document import Identifier, Part
from gateway.policy.explain import explain as explained
from gateway.policy.reach import TooManyProfilesError
from gateway.policy.reach import reach as reached
from gateway.policy.snapshot import Asked, Snapshot

SOMEONE = "(someone)"
"""The id of whoever is not registered: no condition can name it."""


class Someone(KnownAttributes):
    """Somebody who need not be registered. An attribute that is left out is not known."""

    kind: Kind = Kind.PERSON
    org: Identifier | None = None


class ExplainBody(Part):
    """A question: a caller, or somebody with attributes; a model, by a name at a provider, or at its first."""

    caller: Identifier | None = None
    attributes: Someone | None = None
    model: ModelName
    provider: Identifier | None = None
    on_behalf_of: Identifier | Someone | None = None

    @model_validator(mode="after")
    def _one_caller(self) -> Self:
        if (self.caller is None) == (self.attributes is None):
            raise ValueError("either caller or attributes is needed")
        return self


async def explain(call: Call[ExplainBody]) -> web.Response:
    """The decision, and each condition that was looked at."""
    body, store = call.body, call.context.store
    current = await store.current()
    snapshot = current.snapshot
    caller = await _someone(store, body.caller if body.attributes is None else body.attributes)
    user = None if body.on_behalf_of is None else await _someone(store, body.on_behalf_of)
    asked = _asked(snapshot, body)
    found = explained(snapshot, caller, asked, user)
    decision = found.decision
    told = {name: getattr(decision, name) for name in decision.__slots__ if name not in ("status", "max_stale")}
    return answer(
        {
            "decision": "permit" if isinstance(decision, Permit) else "deny",
            "asked": {"provider": asked.provider, "name": asked.names[0]},
            **told,
            "trace": found.trace,
        }
    )


async def _someone(store: Store, who: str | Someone | None) -> Caller:
    if isinstance(who, Someone):
        known_of = {name: getattr(who, name) for name in KnownAttributes.model_fields}
        return Caller(SOMEONE, Facts(kind=who.kind, org=who.org, **known_of))
    record = await callers.existing(store, who or "")
    return record.caller().at(datetime.now(UTC).timestamp())


def _asked(snapshot: Snapshot, body: ExplainBody) -> Asked:
    """The request that is asked about: a name as it is given at a provider, else the model's own at its first."""
    if body.provider is not None:
        return Asked(body.provider, (body.model,))
    model_id = meant(snapshot.document, body.model)
    provider = snapshot.document.models[model_id].routes[0].provider
    named = snapshot.resolve(provider, body.model) == model_id
    return Asked(provider, (body.model if named else a_name(snapshot, model_id, provider),))


# ------------------------------------------------------------------------------------------------ reach


async def reach(call: Call[Empty]) -> web.Response:
    """Who may use a model: everyone there can be, and the registered callers."""
    current = await call.context.store.current()
    snapshot = current.snapshot
    model_id = meant(snapshot.document, call.id)
    registered = await known(call.context.store.records)
    try:
        found = await asyncio.to_thread(_reach, snapshot, model_id, registered)
        return answer({"revision": snapshot.revision, **found})
    except TooManyProfilesError as error:
        raise NotEnumerable(f"The policy on {model_id} tells too many people apart: {error}.") from None


def may_use(snapshot: Snapshot, model_id: str, registered: Known) -> dict[str, Any]:
    """Who may use a model under a policy that need not be in force; ``profiles``: ``None`` where they are too many."""
    try:
        return _reach(snapshot, model_id, registered)
    except TooManyProfilesError:
        return {"model": model_id, "profiles": None}


def _reach(snapshot: Snapshot, model_id: str, registered: Known) -> dict[str, Any]:
    found = reached(snapshot, model_id)
    may = [record for record in registered.records if _permitted(snapshot, record, model_id)]
    return {
        "model": model_id,
        "profiles": found.profiles,
        "permitted": shown(Vocabulary([snapshot], [model_id]), found.permitted, MAX_EXAMPLES),
        "callers": {**registered.said, "permitted": counted(may)},
    }


def _permitted(snapshot: Snapshot, record: CallerRecord, model_id: str) -> bool:
    provider = snapshot.document.models[model_id].routes[0].provider
    caller = record.caller().at(datetime.now(UTC).timestamp())
    return isinstance(snapshot.decide(caller, Asked(provider, (a_name(snapshot, model_id, provider),))), Permit)


async def refusal(call: Call[Empty]) -> web.Response:
    """Why a request was refused, as long as a worker of this machine remembers it."""
    seek = call.context.refusal
    found = await seek(call.id) if seek is not None else None
    if found is None:
        raise NotFound(f"No worker here remembers a refusal {call.id!r}. They keep some 10,000 each; the log has all.")
    return answer(found)


ROUTES = (
    Route("GET", "/api/v1/refusals/{id}", Access.READ, refusal, "Why a request was refused"),
    Route(
        "POST",
        "/api/v1/explain",
        Access.READ_CALLERS,
        explain,
        "Whether somebody may have a model, and why",
        body=ExplainBody,
    ),
    Route("GET", "/api/v1/models/{id}/reach", Access.READ, reach, "Who may use a model"),
)
