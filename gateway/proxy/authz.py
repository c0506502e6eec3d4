"""The decision as a service, for a proxy that carries the traffic itself: Envoy's ext_authz, nginx' auth_request.

Such a proxy asks about each request before it passes it on. The question goes the way of every request, through the
same steps, up to ``forward``: there it is answered with 200 instead, or before that with the refusal. What the proxy
does not show cannot be decided, and is denied: a body that it has cut, a body that it never sends, a WebSocket.

========================  =====================================================================================
``/authz/envoy/…``        the client's request, its path behind this prefix: method, headers and body as they came
``/authz/nginx``          method and target in ``X-Original-Method`` and ``X-Original-URI``; no body
========================  =====================================================================================

The path says which, for it is the proxy's to write; a client's headers do not.
"""

import json
import re
from typing import TYPE_CHECKING

from gateway.dialects.refusal import Refusal, refuse
from gateway.dialects.selectors import Reading
from gateway.dialects.table import Kind, Operation
from gateway.policy.decision import Deny, Permit, Reason
from gateway.proxy.asking import AVAILABILITY, Stage
from gateway.proxy.exchange import Exchange
from gateway.proxy.head import Head, Refused, malformed, read_head
from gateway.proxy.wire import own_response

if TYPE_CHECKING:
    from gateway.proxy.connection import ClientConnection
    from gateway.proxy.gate import Gate

PREFIX = "/authz/"
"""Where questions come in; no provider can have the name while they are answered."""

ENVOY = "/authz/envoy"
NGINX = "/authz/nginx"

PARTIAL = b"x-envoy-auth-partial-body"
"""Envoy's own word, which no client can give it: whether it has shown less than the whole body."""

_ORIGINAL_METHOD, _ORIGINAL_TARGET = b"x-original-method", b"x-original-uri"
_NOT_ORIGINAL = frozenset((_ORIGINAL_METHOD, _ORIGINAL_TARGET, b"content-length", b"connection"))
"""Headers of a question without a body that are about the question itself."""

_METHOD = re.compile(rb"[A-Z]{1,16}")
_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)
_NO_BODY = Reading((), stream=False)

Headers = list[tuple[bytes, bytes]]


def says_nothing(operation: Operation) -> bool:
    """Whether a body of this operation can name no model, let none run unnamed, and use nothing that is kept."""
    if operation.body in (Kind.NONE, Kind.OPAQUE):
        return True
    reader, form = operation.reader, operation.form
    read = (*reader.selectors, *reader.implied, *reader.references, *form.documents)
    return not read and form.batch is None


def original(headers: Headers, version: str, *, keep_alive: bool) -> Head:
    """The head of the request that a proxy asks about by headers.

    Raises:
        Refused: it does not say which, or it is none that is served. An encoded slash is not: nginx decodes it where
            its ``proxy_pass`` has a path.
    """
    method = _once(headers, _ORIGINAL_METHOD)
    target = _once(headers, _ORIGINAL_TARGET)
    if not _METHOD.fullmatch(method):
        raise malformed("X-Original-Method must be a method.")
    if _ENCODED_SLASH.search(target):
        raise malformed("An encoded / in the path is not accepted through this proxy, which may decode it.")
    shown = [(name, value) for name, value in headers if name not in _NOT_ORIGINAL]
    return read_head(method, target, version, shown, keep_alive=keep_alive)


def _once(headers: Headers, wanted: bytes) -> bytes:
    values = [value for name, value in headers if name == wanted]
    if len(values) != 1:
        raise malformed(f"The proxy must send {wanted.decode()}, once.")
    return values[0]


class Question(Exchange):
    """One question. It is an exchange that is never forwarded."""

    __slots__ = ("_headers", "_shows_body", "_whole")

    def __init__(self, gate: "Gate", client: "ClientConnection", head: Head, headers: Headers) -> None:
        super().__init__(gate, client, head, head.content_length)
        self._headers = headers
        self._shows_body = head.path != NGINX
        self._whole = False

    # ------------------------------------------------------------------ what is asked about

    def _find_operation(self) -> None:
        if self._shows_body:
            self._read_shown()
        else:
            self._read_told()
        super()._find_operation()
        if self.operation is AVAILABILITY or (self.operation is not None and self.operation.talk is not None):
            message = "Only the gateway itself serves this: send it there, not through this proxy."
            raise Refused(Deny(Reason.OPERATION_NOT_LISTED, self.gate.revision, message=message))

    def _read_shown(self) -> None:
        """The request as it came: its path is behind the prefix."""
        head = self.head
        if not head.path.startswith(ENVOY + "/"):
            raise malformed(f"A proxy asks at {ENVOY}/… or at {NGINX}.")
        head.path = head.path[len(ENVOY) :]
        self._whole = [value for name, value in self._headers if name == PARTIAL] == [b"false"]

    def _read_told(self) -> None:
        """The request as the proxy tells of it."""
        if self.has_body:
            raise malformed("A question about another request has no body.")
        head = self.head
        self.head = original(self._headers, head.version, keep_alive=head.keep_alive)

    def switches(self) -> bool:
        """Whether a WebSocket is meant is found out by ``_find_operation``."""
        return True

    # ------------------------------------------------------------------ its body

    def _expect_body(self) -> None:
        """A body that decides must have been shown, and whole."""
        assert self.operation is not None
        decides = not says_nothing(self.operation)
        if decides and not self._shows_body:
            message = "The request's body decides here, and this proxy does not show it to the gateway."
            raise Refused(Deny(Reason.MODEL_UNRESOLVED, self.gate.revision, message=message))
        if decides and not self._whole:
            raise malformed("The proxy has not shown the whole body to the gateway.", 413)
        if self._shows_body:
            super()._expect_body()
        else:
            self._reading = _NO_BODY

    def _expect_upload(self, operation: Operation) -> bool:
        """Nothing is passed on from here."""
        del operation
        return False

    # ------------------------------------------------------------------ the answer

    def _forward(self, permit: Permit) -> None:
        """Yes. The proxy acts on it now: no later revision can take it back."""
        self.permit = permit
        self.status = 200
        self._answer(200, (), b"")

    def refuse(self, deny: Deny) -> None:
        """No. nginx passes on neither body nor any status but 401 and 403: there they stand in headers."""
        if self._shows_body:
            super().refuse(deny)
            return
        if self.stage is Stage.ENDED:
            return
        self.denied = deny
        refusal = refuse(deny, *self.gate.refusal_context(self, deny))
        self.status = refusal.status
        self._answer(401 if refusal.status == 401 else 403, (*refusal.headers, *_told(refusal)), b"")

    def _answer(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
        self.stage = Stage.RELAYING
        keep_alive = self.client.keeps_alive(self)
        self.client.write(
            own_response(status, headers, body, self.request_id, self.gate.revision, keep_alive=keep_alive)
        )
        self._end()


def _told(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """A refusal as headers: its status, and its body in one line of ASCII."""
    body = json.dumps(json.loads(refusal.body()), separators=(",", ":"))
    return (("Portcullis-Status", str(refusal.status)), ("Portcullis-Refusal", body))
