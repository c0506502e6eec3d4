"""Where the catalog lags behind: models that providers list, or callers ask for, and it has not; and adopting one.

To adopt a name is to say which model it is another name of. From then on it *is* that model: what holds and directives
say of it, today and later, they say of the name. So nothing is opened that was not open; and what a name says it is
made of (an edition, a fine-tune) it may not leave behind.
"""

from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.control.access import Access
from gateway.control.catalog import holds_on, meant
from gateway.control.changes import Change, apply, of_edits
from gateway.control.edits import edit
from gateway.control.idempotency import Operation
from gateway.control.problems import Conflict, Malformed, Unchanged
from gateway.control.routing import Call, Empty, Route, answer
from gateway.control.shapes import ModelName
from gateway.control.upstream_lists import Listed, lists
from gateway.enforcement.store import Current
from gateway.policy.document import Identifier, Model, Part, names_of
from gateway.policy.document import Route as At
from gateway.policy.names import well_formed
from gateway.policy.snapshot import Snapshot


class AdoptBody(Part):
    """A name, the model it is another name of, and where; what only one can be need not be said."""

    name: ModelName
    like: ModelName | None = None
    provider: Identifier | None = None


# ------------------------------------------------------------------------------------------------ drift


async def drift(call: Call[Empty]) -> web.Response:
    """What providers list and the catalog has not, what it has and they do not, and what was refused lately."""
    current = await call.context.store.current()
    listed = await lists(call.context.settings.providers)
    refused = await call.context.refused() if call.context.refused is not None else []
    snapshot = current.snapshot
    return answer(
        {
            "revision": current.rev,
            "providers": {name: _provider(snapshot, name, found) for name, found in sorted(listed.items())},
            "refused": [
                {"provider": provider, "name": name, "times": times, "last": last, "like": _kin(snapshot, name)}
                for provider, name, times, last in refused
                if not _is_known(snapshot, provider, name)
            ],
        }
    )


def _provider(snapshot: Snapshot, provider: str, listed: Listed) -> dict[str, Any]:
    if listed.trouble is not None:
        return {"trouble": listed.trouble, "missing": [], "gone": []}
    missing = sorted(name for name in listed.names if not _is_known(snapshot, provider, name))
    return {
        "trouble": None,
        "listed": len(listed.names) + listed.unreadable,
        "unreadable": listed.unreadable,
        "missing": [{"name": name, "like": _kin(snapshot, name)} for name in missing],
        "gone": _gone(snapshot, provider, listed.names),
    }


def _is_known(snapshot: Snapshot, provider: str, name: str) -> bool:
    """Whether a request may give this name, as it is listed or without Gemini's prefix."""
    return any(snapshot.resolve(provider, spelt) is not None for spelt in (name, name.removeprefix("models/")))


def _kin(snapshot: Snapshot, name: str) -> list[str]:
    """The models whose other edition, or fine-tune, a name says it is."""
    return snapshot.lookalikes(name)


def _gone(snapshot: Snapshot, provider: str, names: frozenset[str]) -> list[str]:
    """Models of which the provider lists no name any more."""
    bare = {name.removeprefix("models/") for name in names}
    found = []
    for model_id, model in sorted(snapshot.document.models.items()):
        here = {name.removeprefix("models/") for at, name in names_of(model) if at == provider}
        if here and not any("*" in name for name in here) and not here & bare:
            found.append(model_id)
    return found


# ------------------------------------------------------------------------------------------------ adopt


async def adopt(call: Call[AdoptBody]) -> web.Response:
    """Make a name another name of a model, under all that restricts that one."""

    async def compose(base: Current, _: Operation) -> Change:
        snapshot, name = base.snapshot, call.body.name
        if not well_formed(name):
            raise Malformed(f"{name!r} is no name that a request may give: letters, digits and ._:/@+- only.")
        like = _like(snapshot, name, call.body.like)
        provider = _at(call, snapshot.document.models[like], call.body.provider)
        if _is_known(snapshot, provider, name):
            raise Unchanged(f"The catalog has {name} at {provider} already: it is {snapshot.resolve(provider, name)}.")
        _check_kin(snapshot, name, like)
        wanted = edit("put", "models", like, _with_name(snapshot.document.models[like], provider, name))
        change = await of_edits(call, base, wanted, action="catalog.adopt", subject=f"models/{like}", models=[like])
        holds, directives = _restrictions(snapshot, like)
        told = {"adopted": name, "provider": provider, "like": like}
        return replace(change, answer={**told, "restricted_by": {"holds": holds, "directives": directives}})

    return await apply(call, compose)


def _like(snapshot: Snapshot, name: str, like: str | None) -> str:
    """Which model it is to be.

    Raises:
        Malformed, Conflict: that is not said, and the name does not say it either.
    """
    if like is not None:
        return meant(snapshot.document, like)
    kin = _kin(snapshot, name)
    if not kin:
        raise Malformed(
            f"{name} looks like no model of the catalog: say like which it is (--like ID), whose restrictions it gets. "
            "A model of its own is PUT /api/v1/models/{id}."
        )
    if len(kin) > 1:
        raise Conflict(f"{name} could be {' or '.join(kin)}: say which (--like ID).", near=kin)
    return kin[0]


def _at(call: Call[AdoptBody], model: Model, provider: str | None) -> str:
    """Where it has the name."""
    if provider is None:
        providers = sorted({route.provider for route in model.routes})
        if len(providers) > 1:
            raise Malformed(f"Say at which provider it has this name (--provider): {', '.join(providers)}.")
        return providers[0]
    if provider not in call.context.settings.providers:
        known = ", ".join(sorted(call.context.settings.providers))
        raise Malformed(f"There is no provider {provider!r} in the settings; there are {known}.")
    return provider


def _check_kin(snapshot: Snapshot, name: str, like: str) -> None:
    """See that a name leaves no restriction behind that it is refused by while nobody has adopted it.

    Raises:
        Conflict: it would.
    """
    kin = _kin(snapshot, name)
    if kin and like not in kin:
        raise Conflict(
            f"{name} says that it is of {' or '.join(kin)}, and not of {like}: adopted like {like} it would be free of "
            f"what restricts {kin[0]}. Adopt it like that one.",
            near=kin,
        )
    mine = {each for some in _restrictions(snapshot, like) for each in some}
    for other in kin:
        more = sorted({each for some in _restrictions(snapshot, other) for each in some} - mine)
        if more:
            raise Conflict(
                f"{name} could be {other} as well, which {', '.join(more)} restricts, and {like} not. Adopt it like "
                f"{other}, or restrict {like} first.",
                near=kin,
            )


def _restrictions(snapshot: Snapshot, model_id: str) -> tuple[list[str], list[str]]:
    """The holds and the directives in force that cover a model."""
    return sorted(holds_on(snapshot, model_id)), sorted(rule.id for rule in snapshot.rules(model_id))


def _with_name(model: Model, provider: str, name: str) -> Model:
    """An entry with one more name at a provider."""
    routes, found = [], False
    for route in model.routes:
        if route.provider == provider and not found:
            routes.append(At(provider=provider, names=(*route.names, name)))
            found = True
        else:
            routes.append(route)
    if not found:
        routes.append(At(provider=provider, names=(name,)))
    return model.model_copy(update={"routes": tuple(routes)})


ROUTES = (
    Route("GET", "/api/v1/catalog/drift", Access.OPERATE, drift, "Models that providers have and the catalog has not"),
    Route(
        "POST",
        "/api/v1/catalog/adopt",
        Access.OPERATE,
        adopt,
        "Make a name another name of a model",
        body=AdoptBody,
        changes=True,
    ),
)
