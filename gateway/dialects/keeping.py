"""What operations do with things that a provider keeps: responses, files, batches, assistants, and the like.

Such a thing is named by an id that says nothing about models, and a later request that names the id may run them. So
what is made through the gateway is remembered (``gateway.proxy.ledger``). Here is what a row of a table means for that:
where a request names ids, where a response does, and which unnamed models an id speaks for.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson


class Act(StrEnum):
    """What an operation does with something that the provider keeps."""

    CREATES = "creates"
    USES = "uses"
    CHANGES = "changes"
    LISTS = "lists"
    DELETES = "deletes"


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that the provider keeps between requests, and what an operation does with it.

    ``at`` is where its id is: the name of a path's segment, or a body's path in dots. Of what is created, it is a path
    in the response's body. Whoever changes a thing uses it, too, and leaves in it the models that run.
    """

    act: Act
    kind: str
    at: str = "id"


REMEMBERED = frozenset(
    ("agent", "assistant", "batch", "cached_content", "client_secret", "conversation", "dream", "eval", "eval_run",
     "file", "fine_tuning_job", "interaction", "invocation", "model", "operation", "response", "run", "session",
     "thread", "video")
)  # fmt: skip
"""Kinds of things that are remembered. Of the others (containers, vector stores, deployments) nobody can say from the
requests that pass here which models' work gets into them: they are decided as things that nobody knows.
"""

CHANGEABLE = frozenset(("agent", "assistant", "conversation", "session", "thread"))
"""Kinds of which later requests change what models they have: what is known of them is never kept for later."""

_OBJECTS = {"response": "response", "run": "thread.run", "thread": "thread"}
"""What an event of a stream says that it tells of, in OpenAI's ``object``."""

_WORDS = ("auto", "none")
"""What may stand where a conversation's id does, and is none (openai-python ``RealtimeResponseCreateParams``)."""

_ID = re.compile(r"[A-Za-z0-9._~:-]{1,512}")
_FIRST_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([A-Za-z0-9._~:-]{1,512})"')


class Thing(NamedTuple):
    """Something that is kept. Without an id: something that nobody can know."""

    kind: str
    id: str


class Use(NamedTuple):
    """A thing that a request uses, and whether it leaves models in it."""

    thing: Thing
    changes: bool


@dataclass(frozen=True, slots=True)
class Keeping:
    """One operation's part in what is kept.

    ``speaks_for`` are the capabilities of unnamed models that a known thing says more of; ``looks``: it runs nothing,
    and shows what is there; ``invokes``: a model runs, or something is shown that one has put out.
    """

    creates: tuple[Kept, ...]
    deletes: tuple[Kept, ...]
    in_path: tuple[Kept, ...]
    in_body: tuple[Kept, ...]
    speaks_for: frozenset[str]
    looks: bool
    invokes: bool

    @property
    def always(self) -> bool:
        """Whether there is something to do whatever the body names."""
        return bool(self.creates or self.deletes or self.in_path)

    @property
    def references(self) -> tuple[tuple[str, ...], ...]:
        """Where a body names ids, as paths."""
        return references(self.in_body)

    def used(self, segments: dict[str, str], ids: Iterable[tuple[str, str]]) -> tuple[Use, ...]:
        """What a request uses, by its path's segments and the ids that its body names."""
        given = dict(ids)
        uses = [Use(thing(kept.kind, unquote(segments[kept.at])), kept.act is Act.CHANGES) for kept in self.in_path]
        named = [kept for kept in self.in_body if given.get(kept.at, _WORDS[0]) not in _WORDS]
        return (*uses, *(Use(thing(kept.kind, given[kept.at]), kept.act is Act.CHANGES) for kept in named))

    def deleted(self, segments: dict[str, str]) -> list[Thing]:
        """What a request ends."""
        return [thing(kept.kind, unquote(segments[kept.at])) for kept in self.deletes]

    def created(self, body: bytes) -> list[Thing]:
        """What a JSON response says has been made. One that says it was not stored has made nothing."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return []
        if isinstance(document, dict) and document.get("store") is False:
            return []
        return [Thing(kept.kind, found) for kept in self.creates if (found := _at(document, kept.at))]

    def created_first(self, start: bytes) -> list[Thing]:
        """The same of a response of which only the start is known: where its id comes first of all."""
        first = _FIRST_ID.match(start)
        return [Thing(kept.kind, first[1].decode()) for kept in self.creates if first and kept.at == "id"]

    def created_by(self, event: bytes) -> list[Thing]:
        """What an event of a stream says has been made."""
        return self.created_in(b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:")))

    def created_in(self, told: bytes) -> list[Thing]:
        """What an event's data says has been made, by itself or by the object that it tells of."""
        try:
            document = orjson.loads(told)
        except orjson.JSONDecodeError:
            return []
        if not isinstance(document, dict):
            return []
        holders = [document, *(document[key] for key in ("response", "interaction") if key in document)]
        return [
            Thing(kept.kind, found)
            for kept in self.creates
            for holder in holders
            if _is_one(holder, kept) and (found := _at(holder, kept.at))
        ]


def keeping(
    kept: tuple[Kept, ...], path: str, *, looks: bool, invokes: bool, speaks_for: frozenset[str]
) -> Keeping | None:
    """What a row's things mean; ``None`` where nothing is to be remembered and nothing known helps."""
    known = [one for one in kept if one.kind in REMEMBERED]
    creates, deletes = (tuple(one for one in known if one.act is act) for act in (Act.CREATES, Act.DELETES))
    uses = [one for one in kept if one.act in (Act.USES, Act.CHANGES)]
    changes = any(one.act is Act.CHANGES for one in uses)
    if not (creates or deletes or changes or (uses and invokes)):
        return None
    in_path = tuple(one for one in uses if f"{{{one.at}}}" in path)
    in_body = tuple(one for one in uses if one not in in_path)
    return Keeping(creates, deletes, in_path, in_body, speaks_for, looks, invokes)


def references(kept: Iterable[Kept]) -> tuple[tuple[str, ...], ...]:
    """Where things are named that are used, as paths."""
    return tuple(tuple(one.at.split(".")) for one in kept if one.act in (Act.USES, Act.CHANGES))


def thing(kind: str, spelt: str) -> Thing:
    """A thing by its id as a request spells it: alone, or as the last segment of a resource's name or ARN."""
    last = spelt.rpartition("/")[2]
    return Thing(kind, last if kind in REMEMBERED and _ID.fullmatch(last) else "")


def _is_one(holder: Any, kept: Kept) -> bool:
    """Whether an object in an event is, or tells of, what is made; with its id alone it has to say so."""
    if not isinstance(holder, dict):
        return False
    told = holder.get("object")
    return told is None or kept.at != "id" or told == _OBJECTS.get(kept.kind, told)


def _at(document: Any, at: str) -> str | None:
    """The id at a path of a response; ``None`` where there is none."""
    for step in at.split("."):
        document = document.get(step) if isinstance(document, dict) else None
    last = document.rpartition("/")[2] if isinstance(document, str) else ""
    return last if _ID.fullmatch(last) else None
