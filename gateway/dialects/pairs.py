"""A JSON object as it stands, apart from its reader: a subclass of ``list`` cannot be compiled with it."""

from typing import Any


class Pairs(list[tuple[str, Any]]):
    """An object as the sequence of its members, duplicates and all."""
