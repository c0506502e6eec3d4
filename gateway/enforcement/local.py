"""Holds of one machine: what an operator closes while Redis cannot be reached.

The control process keeps them in ``state_dir`` and tells its workers; each worker merges them into the document before
it compiles, so that decisions, severing and lists follow at once. They only ever deny. When Redis is back they are
committed like any hold, and a worker lets go of one when it has applied the revision that carries it.
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from gateway.enforcement.entry import Position
from gateway.policy.document import Document, Hold, Identifier, Order, Part

FILE = "local-holds.json"


class UnreadableError(Exception):
    """The file of local holds cannot be used. The message says what to do."""


class LocalHold(Part):
    """A hold that stands on this machine. ``order``: the one it is under, in case the policy here lacks it.

    ``operation``: by what the commit script knows it, so that it is committed once. ``uncertain``: it may have been
    committed just before Redis went away. ``by_changed``: the revision of its maker's token. ``carried``: the revision
    that has it by now.
    """

    id: Identifier
    hold: Hold
    operation: str
    order: Order | None = None
    uncertain: bool = False
    by_changed: int = 0
    carried: Position | None = None

    def carried_by(self, position: Position | None) -> bool:
        """Whether who stands there has applied the revision that carries it."""
        carried = self.carried
        if carried is None or position is None:
            return False
        return position.epoch == carried.epoch and position.rev >= carried.rev


Holds = tuple[LocalHold, ...]
_HOLDS: TypeAdapter[Holds] = TypeAdapter(Holds)
EVERYTHING = LocalHold(
    id="local-holds-unreadable",
    hold=Hold(models=("*",), by="portcullis", at=datetime(1970, 1, 1, tzinfo=UTC)),
    operation="",
)
"""What a worker holds that cannot read which."""


def merged(document: Document, holds: Holds) -> Document:
    """A policy with the holds of this machine; those that it has itself stay as they are there."""
    own = {local.id: local.hold for local in holds if local.id not in document.holds}
    if not own:
        return document
    orders = {local.hold.order: local.order for local in holds if local.order is not None and local.hold.order}
    fields = {"holds": {**document.holds, **own}, "orders": {**orders, **document.orders}}
    return document.model_copy(update=fields)


def read_holds(said: Iterable[object]) -> Holds:
    """Local holds as they are said between processes.

    Raises:
        ValueError: they are none.
    """
    return _HOLDS.validate_python(tuple(said))


def write_holds(holds: Holds) -> list[dict[str, object]]:
    """Local holds, as ``read_holds`` takes them."""
    return [_HOLDS.dump_python((local,), mode="json")[0] for local in holds]


def load_holds(state_dir: Path) -> Holds:
    """The holds that stand on this machine, from disk.

    Raises:
        UnreadableError: there are some, and it cannot be known which.
    """
    path = state_dir / FILE
    try:
        return _HOLDS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise UnreadableError(
            f"{path} says what is offline on this machine, and cannot be read ({type(error).__name__}): "
            "look at it, place those holds anew, then move it away"
        ) from None


def keep_holds(state_dir: Path, holds: Holds) -> None:
    """Write them down, atomically and to the disk. Blocks: not for the event loop.

    Raises:
        OSError: they are not on disk.
    """
    path = state_dir / FILE
    temporary = path.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(_HOLDS.dump_json(holds))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(state_dir, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
