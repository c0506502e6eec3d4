"""What may be said on a WebSocket: kinds of messages, and where each of them names models. All of it is data.

A message is JSON, in a text or a binary frame. Its kind is what ``type`` says (OpenAI) or its only key (Gemini); one
that the table has not is refused, as an operation is that no table has. Adding one is a row.

Sources: openai-python 3.54 ``types/realtime/realtime_client_event_param.py`` and
``types/responses/responses_client_event_param.py``; google-genai 3.4 ``live.py`` and ``types.LiveClientMessage``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from gateway.dialects.keeping import Keeping, Kept, keeping
from gateway.dialects.selectors import (
    BodyReader,
    MalformedBodyError,
    Reading,
    keys_like,
    must_be_light,
    one_member,
    parse_object,
)

if TYPE_CHECKING:
    from gateway.dialects.table import Problem

_WORD = re.compile(r"[A-Za-z0-9_.]{1,64}")


class MessageReader:
    """Reads the messages of one operation's clients. ``key`` holds the kind; without it the only key is the kind."""

    def __init__(self, kinds: Mapping[str, BodyReader], key: str = "") -> None:
        self.kinds = kinds
        self.key = key
        self._standing = keys_like(key)
        self._written = re.compile(b'[{,]"%b":' % key.encode())

    def read_light(self, message: bytes) -> Reading:
        """The names in a message, if that is done in a moment.

        Raises:
            MalformedBodyError: it can be read in more than one way, or is of no kind that is listed.
            HeavyBodyError: it is not.
        """
        must_be_light(message)
        return self.read(message)

    def read(self, message: bytes) -> Reading:
        """The names in a message, however long that takes.

        Raises:
            MalformedBodyError: as above.
        """
        document = parse_object(message)
        kind = self._kind(message, document) if self.key else _only_key(document)
        reader = self.kinds.get(kind)
        if reader is None:
            raise MalformedBodyError(f"Messages of the kind {_told(kind)} are not served by this gateway.")
        return reader.read(message)

    def _kind(self, message: bytes, document: dict[str, Any]) -> str:
        """What ``key`` says, if it stands once and in one spelling.

        Where it occurs as often as in the message written anew, no object has it twice: only else is that looked at.
        """
        standing = len(self._standing.findall(message))
        once = standing == 1 or standing == len(self._written.findall(_anew(document)))
        kind = document.get(self.key) if once else one_member(message, self.key)
        if not isinstance(kind, str):
            raise MalformedBodyError(f"{self.key} must say what the message is.")
        return kind


def _anew(document: dict[str, Any]) -> bytes:
    """A document written by orjson; nothing, if it is nested deeper than orjson writes."""
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        return b""


def _only_key(document: dict[str, Any]) -> str:
    if len(document) != 1:
        raise MalformedBodyError("A message must have one key, which says what it is.")
    return next(iter(document))


def _told(kind: str) -> str:
    """A kind as it may be told: what a client writes is not sent back unless it is a plain word."""
    return kind if _WORD.fullmatch(kind) else "that it says it is"


@dataclass(frozen=True, slots=True)
class Talk:
    """How a WebSocket is spoken.

    ``event`` writes the message that says why the gateway ends it. ``joins`` is a parameter of the query by which it
    joins what runs a model that the request does not name. ``key_protocol`` begins a subprotocol that carries the
    caller's key: a browser can send no header. ``answers_first``: its SDKs take whatever message comes first for a good
    answer, so that until then the close alone says why. ``kept`` are things that the provider keeps, and that messages
    name; ``made_by`` is the kind of the provider's message that says what was made. ``keeping`` is what they come to.
    """

    reader: MessageReader
    event: Callable[["Problem"], bytes]
    joins: str = ""
    key_protocol: bytes = b""
    answers_first: bool = False
    kept: tuple[Kept, ...] = ()
    made_by: str = ""
    keeping: Keeping | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        readers = self.reader.kinds.values()
        unnamed = {selector.absent for reader in readers for selector in reader.selectors}
        words = {implied.capability for reader in readers for implied in reader.implied}
        kept = keeping(self.kept, "", looks=False, invokes=True, speaks_for=frozenset(unnamed - words - {""}))
        object.__setattr__(self, "keeping", kept)

    def tells_of_a_new_one(self, said: str | bytes | bytearray) -> bool:
        """Whether a provider's message may be the one that says what was made."""
        if not self.made_by:
            return False
        return self.made_by in said if isinstance(said, str) else self.made_by.encode() in said
