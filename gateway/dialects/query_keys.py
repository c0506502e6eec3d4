"""Keys in a query, where Google's REST clients put them: taken out, because a query gets into logs."""

from dataclasses import dataclass


class QueryKeyError(Exception):
    """A key that is not taken from a query, or that cannot be read in one way only. The message never quotes it."""


@dataclass(frozen=True, slots=True)
class QueryKeys:
    """Which parameters of a query hold keys. ``taken`` carries the caller's; ``refused`` are others, in lower case."""

    taken: str = ""
    refused: frozenset[str] = frozenset()

    def split(self, query: bytes) -> tuple[bytes, bytes]:
        """What goes on of a query, in order and as it was; and the key that was in it, if any.

        Raises:
            QueryKeyError: another key, two, an empty or an encoded one, or a name in other letters.
        """
        rest, keys = [], []
        for pair in query.split(b"&"):
            name, _, value = pair.partition(b"=")
            plain = name.decode("latin-1")
            if not plain or plain.casefold() not in (self.taken, *self.refused):
                rest.append(pair)
            elif plain == self.taken:
                keys.append(value)
            else:
                raise QueryKeyError("Send the key in a header, not in the query.")
        if len(keys) > 1 or any(not key or b"%" in key or b"+" in key for key in keys):
            raise QueryKeyError("A key in the query must be one, and plain. Better send it in a header.")
        return b"&".join(rest), keys[0] if keys else b""


NO_KEYS = QueryKeys()
"""No parameter holds a key."""
