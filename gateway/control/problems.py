"""Why a call is refused: one type per cause, each with its status (RFC 9457).

A ``detail`` says what to do. Nothing here may hold a token, a key or a caller's attribute.
"""

import re
from collections.abc import Iterable
from typing import Any, ClassVar

import orjson
from aiohttp import web
from pydantic import ValidationError

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """A refusal. Keyword arguments become members of the problem object."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "The gateway failed"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members

    def response(self) -> web.Response:
        """The problem as it is sent."""
        body = {
            "type": f"urn:portcullis:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        return web.Response(
            body=orjson.dumps(body), status=self.status, content_type=CONTENT_TYPE, headers=self.headers
        )


class Malformed(Problem):
    """The request cannot be understood."""

    status, slug, title = 400, "malformed", "The request is malformed"


class Unauthenticated(Problem):
    """No token, or none of ours."""

    status, slug, title = 401, "unauthenticated", "A valid token is needed"
    headers: ClassVar = {"WWW-Authenticate": 'Bearer realm="portcullis"'}


class Forbidden(Problem):
    """The operator's roles do not include this."""

    status, slug, title = 403, "forbidden", "Your role does not allow this"


class NotFound(Problem):
    """The object does not exist."""

    status, slug, title = 404, "not-found", "There is no such object"


class NoSuchModel(Problem):
    """The catalog knows no model by this name."""

    status, slug, title = 404, "no-such-model", "There is no such model"


class Conflict(Problem):
    """What is asked for does not fit what is there."""

    status, slug, title = 409, "conflict", "This does not fit the policy in force"


class Unchanged(Problem):
    """The call would change nothing, so that it made no revision."""

    status, slug, title = 409, "unchanged", "Nothing would change"


class InUse(Problem):
    """What is to be removed is used."""

    status, slug, title = 409, "in-use", "This is still used"


class StillHeld(Problem):
    """The model is offline by holds that this call does not release."""

    status, slug, title = 409, "still-held", "The model stays offline"


class Overtaken(Problem):
    """Somebody else committed between reading and writing."""

    status, slug, title = 409, "overtaken", "Somebody else changed the policy at the same moment"


class PreconditionFailed(Problem):
    """If-Match or If-None-Match does not fit."""

    status, slug, title = 412, "precondition-failed", "The object has changed, or exists already"


class Reused(Problem):
    """An Idempotency-Key came again with another body."""

    status, slug, title = 422, "idempotency-key-reused", "The Idempotency-Key belongs to another request"


class NotEnumerable(Problem):
    """The policy tells more people apart than can be looked at."""

    status, slug, title = 422, "not-enumerable", "There are too many profiles"


class Misdirected(Problem):
    """The Host header names somebody else: perhaps a page that rebinds DNS."""

    status, slug, title = 421, "misdirected", "This is not the host you asked for"


class PreconditionRequired(Problem):
    """Neither If-Match nor If-None-Match was given."""

    status, slug, title = 428, "precondition-required", "Say which version you mean to change"


class Unavailable(Problem):
    """Redis does not answer, or holds nothing usable."""

    status, slug, title = 503, "unavailable", "The policy cannot be reached"


class Protocol(Problem):
    """A refusal of the HTTP server itself: no such path, wrong method, body too large."""

    def __init__(self, cause: web.HTTPException) -> None:
        super().__init__(_HINTS.get(cause.status, cause.reason))
        self._cause = cause

    def response(self) -> web.Response:
        """The server's status and reason, as a problem."""
        body = {"type": "about:blank", "title": self._cause.reason, "status": self._cause.status, "detail": self.detail}
        headers = {"Allow": self._cause.headers["Allow"]} if "Allow" in self._cause.headers else {}
        return web.Response(
            body=orjson.dumps(body), status=self._cause.status, content_type=CONTENT_TYPE, headers=headers
        )


_HINTS = {
    404: "There is nothing at this path; /openapi.json lists what there is.",
    405: "The path exists, the method does not; the Allow header lists those that do.",
    413: "A body may have 1 MiB.",
}


def mistakes(error: ValidationError) -> list[dict[str, str]]:
    """Where a body or document is wrong, without the values: they may be secrets."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [_mistake(".".join(map(str, detail["loc"])), detail["msg"]) for detail in found]


def _mistake(place: str, message: str) -> dict[str, str]:
    """One mistake. A rule of ours that looks at more than one field begins its message with the path."""
    inner = _OWN_PATH.fullmatch(message)
    if inner is None:
        return {"path": place, "message": message}
    return {"path": f"{place}.{inner[1]}".lstrip("."), "message": inner[2]}


_OWN_PATH = re.compile(r"Value error, ([\w.:\[\]-]+): (.*)", re.DOTALL)


def sentence(found: Iterable[dict[str, str]]) -> str:
    """Mistakes as one line."""
    return "; ".join(
        f"{mistake['path']}: {mistake['message']}" if mistake["path"] else mistake["message"] for mistake in found
    )
