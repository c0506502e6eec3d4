"""What is proven: replicas, receipts, and the policy they are about."""

from typing import Any

from aiohttp import web

from gateway.control.access import Access
from gateway.control.conditions import etag
from gateway.control.problems import NotFound
from gateway.control.routing import Call, Empty, Route, answer


def view(member: str, said: dict[str, Any]) -> dict[str, Any]:
    """A replica, as it last spoke; one that was never heard of but left has no more than its name."""
    name, _, incarnation = member.partition(":")
    told = {field: said.get(field) for field in ("rev", "swept", "draining", "streams_cut", "host", "version")}
    return {"id": name, "incarnation": incarnation, "state": "left" if said.get("left") else "live", **told}


async def replicas(call: Call[Empty]) -> web.Response:
    """Every replica that Redis lists; those that left stay for an hour."""
    store = call.context.store
    current = await store.current()
    members = sorted((await store.members()).items())
    return answer({"revision": current.rev, "replicas": [view(member, said) for member, said in members]})


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


ROUTES = (
    Route("GET", "/api/v1/replicas", Access.READ, replicas, "Every replica, and what it enforces"),
    Route("GET", "/api/v1/receipts/{revision}", Access.READ, receipt, "The proof that a revision is enforced"),
    Route("GET", "/api/v1/policy", Access.READ, policy, "The policy document in force"),
)
