"""An archive of evidence that whoever trusts nobody can verify: chain, heads, keys, reports, and the verifier itself.

It is written as it goes, so that a million entries take no more memory than one. Of an order's archive the entries
about other things are there without their bodies: the chain holds, and what is none of the reader's business is not in
it. ``manifest.json`` lists the files by digest and is signed.
"""

import hashlib
import queue
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import RawIOBase
from pathlib import Path
from typing import Any

import orjson

from gateway.control.report import facts_of
from gateway.control.report_page import page
from gateway.enforcement.chain import Head, tag_of, without_body
from gateway.enforcement.mirror import HEADS, TIMESTAMPS, lines, lines_of, read_seq
from gateway.enforcement.signing import Signer
from gateway.policy.document import canonical

VERIFIER = Path(__file__).with_name("verify_archive.py")
PIECES = 64
"""Pieces that wait for a slow reader; then the archive's maker waits."""

PATIENCE_SECONDS = 60.0
DAY_CHARS = 10

README = """An archive of evidence of the gateway {gateway}{about}, made at {made_at} by {made_by}.

Verify it, with Python (3.8 or newer) and openssl (3.0 or newer) and nothing else:

    python3 -I -S verify.py --key KEY_ID

KEY_ID is the id of the gateway's signing key ({kids} here). Get it from somebody other than whoever gave you this
archive: it is the first 16 digits of the SHA-256 of the public key. If you hold an earlier head, add --head FILE.

evidence.jsonl   the chain, an entry a line: envelope, and body where it is about the order
heads.jsonl      where the chain ended, signed, at several times; the last covers everything here
timestamps.jsonl what a timestamp authority said of heads, if one was asked (verify.py --tsa-ca)
report.html      what happened, for people; report.json the same as data
names.json       who is behind a pseudonym, by the register of callers when this was made
keys/            public keys
manifest.json    the files by digest; manifest.sig signs it

{limits}
"""


class AbandonedError(Exception):
    """Nobody reads the archive any more."""


class Piped(RawIOBase):
    """What a thread writes and a loop reads, in pieces; the writer waits for the reader."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes | None] = queue.Queue(PIECES)
        self._abandoned = False
        self._at = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Hand over a piece.

        Raises:
            AbandonedError: nobody takes it.
        """
        piece = bytes(data)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._abandoned and time.monotonic() < deadline:
            try:
                self._pieces.put(piece, timeout=0.2)
            except queue.Full:
                continue
            self._at += len(piece)
            return len(piece)
        raise AbandonedError

    def tell(self) -> int:
        """How much was written."""
        return self._at

    def finish(self) -> None:
        """There is no more."""
        self._pieces.put(None, timeout=PATIENCE_SECONDS)

    def abandon(self) -> None:
        """Read no more."""
        self._abandoned = True

    def take(self) -> bytes | None:
        """The next piece; ``None`` after the last."""
        return self._pieces.get(timeout=PATIENCE_SECONDS)


@dataclass(slots=True)
class Archive:
    """One archive. ``first``: the number of the order's first entry; ``names``: callers by pseudonym."""

    directory: Path
    signer: Signer
    gateway: str
    head: Head
    order: str | None
    first: int
    names: Mapping[str, str]
    made_by: str
    made_at: str
    _digests: dict[str, str] = field(default_factory=dict)
    _about: list[dict[str, Any]] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict)
    _kids: set[str] = field(default_factory=set)

    def write(self, target: Piped) -> None:
        """Write all of it. Blocks: not for the event loop."""
        try:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
                self._fill(archive)
            target.finish()
        except (AbandonedError, queue.Full):
            return

    def _fill(self, archive: zipfile.ZipFile) -> None:
        self._put(archive, "evidence.jsonl", self._chain())
        self._put(archive, HEADS, self._heads())
        self._put(archive, TIMESTAMPS, self._stamps())
        for kid, pem in sorted(self.signer.pems().items()):
            self._put(archive, f"keys/{kid}.pem", [pem])
        used = {who["caller"] for entry in self._about for who in _named(entry)}
        named = {pseudonym: name for pseudonym, name in self.names.items() if pseudonym in used}
        facts = facts_of(self._about, named, self._view())
        self._put(archive, "names.json", [canonical(named)])
        self._put(archive, "report.json", [orjson.dumps(facts, option=orjson.OPT_INDENT_2)])
        self._put(archive, "report.html", [page(facts).encode()])
        self._put(archive, "verify.py", [VERIFIER.read_bytes()])
        self._put(archive, "README.txt", [self._readme(facts).encode()])
        manifest = canonical({**self._view(), "files": self._digests})
        self._put(archive, "manifest.json", [manifest])
        signature = self.signer.sign("archive", hashlib.sha256(manifest).hexdigest(), b"")
        self._put(archive, "manifest.sig", [canonical({"kid": self.signer.kid, "sig": signature})])

    def _view(self) -> dict[str, Any]:
        return {
            "gateway": self.gateway,
            "order": self.order,
            "made_at": self.made_at,
            "made_by": self.made_by,
            "head": self.head.view(),
            "counts": self._counts,
            "keys": sorted(self._kids),
        }

    def _put(self, archive: zipfile.ZipFile, name: str, pieces: Iterable[bytes]) -> None:
        found = hashlib.sha256()
        info = zipfile.ZipInfo(name, date_time=_moment(self.made_at))
        info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
        with archive.open(info, "w", force_zip64=True) as file:
            for piece in pieces:
                found.update(piece)
                file.write(piece)
        self._digests[name] = found.hexdigest()

    # ------------------------------------------------------------------ the chain

    def _chain(self) -> Iterator[bytes]:
        """The lines of the chain, up to the head; without the bodies that are about something else."""
        mark = b"" if self.order is None else b'"' + tag_of(self.order).encode() + b'"'
        whole = left_out = 0
        for line in lines(self.directory, self.first):
            seq = read_seq(line)
            if seq > self.head.place.seq:
                break
            if self.order is None or mark in line[line.rfind(b'"tags":[') :]:
                whole += 1
                self._learn(line)
                yield line + b"\n"
            else:
                left_out += 1
                yield without_body(line) + b"\n"
        self._counts = {"whole": whole, "left_out": left_out, "first": self.first or 1, "last": self.head.place.seq}

    def _learn(self, line: bytes) -> None:
        if self.order is not None:
            entry = orjson.loads(line)
            self._kids.add(entry["kid"])
            self._about.append(entry)

    # ------------------------------------------------------------------ heads

    def _heads(self) -> Iterator[bytes]:
        """Of each day the last, those that a timestamp is of, the first over each receipt, and the newest."""
        stamped = {orjson.loads(line)["digest"] for line in lines_of_if_there(self.directory / TIMESTAMPS)}
        receipts = iter([entry["seq"] for entry in self._about if entry["kind"] == "receipt"])
        due, last = next(receipts, None), None
        for line in lines_of_if_there(self.directory / HEADS):
            head = orjson.loads(line)
            if not self.first <= head["seq"] <= self.head.place.seq or head["digest"] == self.head.digest:
                continue
            if last is not None and head["at"][:DAY_CHARS] != orjson.loads(last)["at"][:DAY_CHARS]:
                yield self._noted(last)
            last = line
            covers = due is not None and head["seq"] >= due
            while due is not None and head["seq"] >= due:
                due = next(receipts, None)
            if covers or head["digest"] in stamped:
                yield self._noted(line)
                last = None
        yield self._noted(canonical(self.head.view()))

    def _noted(self, line: bytes) -> bytes:
        self._kids.add(orjson.loads(line)["kid"])
        return line + b"\n"

    def _stamps(self) -> Iterator[bytes]:
        for line in lines_of_if_there(self.directory / TIMESTAMPS):
            if self.first <= orjson.loads(line)["seq"] <= self.head.place.seq:
                yield line + b"\n"

    def _readme(self, facts: Mapping[str, Any]) -> str:
        limits = "\n".join(["What it cannot prove:", *(f"- {each}" for each in facts["limits"])])
        about = f" about the order {self.order}" if self.order else ""
        told = {"gateway": self.gateway, "about": about, "made_at": self.made_at, "made_by": self.made_by}
        return README.format(**told, kids=", ".join(sorted(self._kids)), limits=limits)


def _named(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if entry["kind"] == "reach":
        for model in entry["body"]["models"]:
            yield from model["who"]


def lines_of_if_there(path: Path) -> Iterator[bytes]:
    """A file's lines; none, where there is no file."""
    return lines_of(path) if path.exists() else iter(())


def _moment(at: str) -> tuple[int, int, int, int, int, int]:
    """A time as ZIP has it."""
    found = datetime.fromisoformat(at)
    return found.year, found.month, found.day, found.hour, found.minute, found.second
