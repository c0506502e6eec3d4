"""What every noun of the policy has in common: it is listed, read, put and deleted under preconditions.

A noun's own module says what it is, and gives its routes their names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.control.changes import Change, apply, of_edits
from gateway.control.conditions import check, etag
from gateway.control.edits import Kind, changed, edit, users
from gateway.control.idempotency import Operation
from gateway.control.problems import NotFound
from gateway.control.routing import Call, Empty, answer
from gateway.enforcement.store import Current
from gateway.policy.document import Document


@dataclass(frozen=True, slots=True)
class Noun:
    """A kind of object. ``more``: what its view says beyond its fields."""

    kind: Kind
    more: Callable[[Current, str], dict[str, Any]]

    @property
    def word(self) -> str:
        """One of it."""
        return self.kind.removesuffix("s")

    def existing(self, document: Document, object_id: str) -> Any:
        """An object by its id.

        Raises:
            NotFound: there is none.
        """
        found = getattr(document, self.kind).get(object_id)
        if found is None:
            raise NotFound(f"There is no {self.word} {object_id!r}. GET /api/v1/{self.kind} lists them.")
        return found

    def view(self, current: Current, object_id: str) -> dict[str, Any]:
        """An object as operators see it."""
        shown = self.existing(current.document, object_id).model_dump(mode="json", by_alias=True, exclude_unset=True)
        revision = changed(current.document, self.kind, object_id)
        return {"id": object_id, **shown, "changed": revision, **self.more(current, object_id)}


def used_by(kind: Kind) -> Callable[[Current, str], dict[str, Any]]:
    """What a view says of something that others may use."""
    return lambda current, object_id: {"used_by": users(current.document, kind, object_id)}


async def listing(call: Call[Empty], noun: Noun) -> web.Response:
    """All of them, by id."""
    current = await call.context.store.current()
    shown = [noun.view(current, object_id) for object_id in sorted(getattr(current.document, noun.kind))]
    return answer({"revision": current.rev, noun.kind: shown})


async def get(call: Call[Empty], noun: Noun) -> web.Response:
    """One of them."""
    shown = noun.view(await call.context.store.current(), call.id)
    return answer(shown, ETag=etag(shown["changed"]))


async def put(call: Call[Any], noun: Noun) -> web.Response:
    """Create or replace one."""
    object_id = call.new_id

    async def compose(base: Current, _: Operation) -> Change:
        check(call.request.headers, f"The {noun.word} {object_id}", changed(base.document, noun.kind, object_id))
        wanted = edit("put", noun.kind, object_id, call.body)
        return await of_edits(call, base, wanted, action=f"{noun.word}.put", subject=f"{noun.kind}/{object_id}")

    return await apply(call, compose)


async def delete(call: Call[Empty], noun: Noun) -> web.Response:
    """Remove one that nothing uses any more."""

    async def compose(base: Current, _: Operation) -> Change:
        noun.existing(base.document, call.id)
        check(call.request.headers, f"The {noun.word} {call.id}", changed(base.document, noun.kind, call.id))
        wanted = edit("delete", noun.kind, call.id)
        return await of_edits(call, base, wanted, action=f"{noun.word}.delete", subject=f"{noun.kind}/{call.id}")

    return await apply(call, compose)
