"""What this machine remembers of the policy when Redis forgets: the last good revision, on disk."""

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.enforcement.entry import Entry, read_entry
from gateway.enforcement.records import read_document
from gateway.enforcement.signing import ForgedError, Verifier
from gateway.policy.document import Document


@dataclass(frozen=True, slots=True)
class Remembered:
    """A revision as it was applied. ``unread``: what of it this gateway cannot read."""

    entry: Entry
    document: Document
    sealed_document: bytes
    unread: tuple[str, ...] = ()


def remember(state_dir: Path, worker: str, entry: bytes, sealed_document: bytes) -> None:
    """Write the last applied revision, atomically and to the disk. Blocks: not for the event loop."""
    path = state_dir / f"remembered-{worker}.json"
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(orjson.dumps({"entry": entry.decode(), "document": sealed_document.decode()}))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def recall(state_dir: Path, verifier: Verifier) -> Remembered | None:
    """The highest revision that any worker of this machine applied; files that do not verify are passed over."""
    found = [seen for path in state_dir.glob("remembered-*.json") if (seen := _read(path, verifier)) is not None]
    return max(found, key=lambda seen: seen.entry.rev, default=None)


def _read(path: Path, verifier: Verifier) -> Remembered | None:
    try:
        stored = orjson.loads(path.read_bytes())
        entry = read_entry(stored["entry"].encode(), verifier)
        sealed = stored["document"].encode()
        document, unread = read_document(entry.doc, sealed, verifier, entry.at)
        return Remembered(entry, document, sealed, unread)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ForgedError, ValueError):
        return None
