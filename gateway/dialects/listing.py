"""Lists of models, filtered: whoever may not use a model does not see it in the list."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

MAX_LIST_BYTES = 8 * 1024 * 1024
"""The longest list that is filtered; OpenAI's is some 30 KB. A longer one is refused, not passed on unread."""


@dataclass(frozen=True, slots=True)
class ListShape:
    """Where a list's items are, and how one names its model. ``cursors``: first_id and last_id are made anew."""

    items: str
    name: str
    cursors: bool = False


class UnreadableListError(Exception):
    """The provider's answer is not the list it should be."""


def filtered(shape: ListShape, body: bytes, allowed: Callable[[str], bool]) -> bytes:
    """A list without the models that are not allowed.

    Raises:
        UnreadableListError: it has another shape.
    """
    try:
        document: dict[str, Any] = orjson.loads(body)
        items = [item for item in document[shape.items] if allowed(str(item[shape.name]))]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise UnreadableListError from None
    document[shape.items] = items
    if shape.cursors:
        document["first_id"] = items[0][shape.name] if items else None
        document["last_id"] = items[-1][shape.name] if items else None
    return orjson.dumps(document)
