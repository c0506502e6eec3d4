"""What a simulated provider keeps between requests: a bounded shelf of objects by their ids."""

from gateway.simulator.dialect import ApiError, Json, derive_id

MOST_KEPT = 10_000


class Shelf:
    """One provider's objects; the oldest goes first. ``contents`` are bytes that belong to some of them."""

    def __init__(self) -> None:
        self._objects: dict[str, Json] = {}
        self._contents: dict[str, bytes] = {}
        self._count = 0

    def new_id(self, prefix: str) -> str:
        """An id that no other object has: ids here do not follow from the request, which may come twice."""
        self._count += 1
        return derive_id(self._count.to_bytes(8), prefix)

    def put(self, item: Json, content: bytes | None = None) -> Json:
        """Keep an object under its ``id``, in place of what was there."""
        self._objects[item["id"]] = item
        if content is not None:
            self._contents[item["id"]] = content
        while len(self._objects) > MOST_KEPT:
            self.drop(next(iter(self._objects)))
        return item

    def get(self, name: str) -> Json:
        """An object; ApiError 404 where there is none."""
        if name not in self._objects:
            raise ApiError(404, f"No such object: {name}")
        return self._objects[name]

    def content(self, name: str) -> bytes:
        """The bytes that belong to an object."""
        self.get(name)
        return self._contents.get(name, b"")

    def drop(self, name: str) -> None:
        """Forget an object; ApiError 404 where there is none."""
        self.get(name)
        del self._objects[name]
        self._contents.pop(name, None)
