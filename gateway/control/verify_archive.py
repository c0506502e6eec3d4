"""Verifies an archive of evidence, with Python's standard library and openssl, and nothing of the gateway.

Run it with ``python3 -I -S verify.py [DIRECTORY] [--key KEY_ID] [--head FILE] [--tsa-ca FILE]``. It walks the chain
entry by entry, recomputes every digest, and has openssl check the signatures. Exit code 0: the copy is what was signed,
and none of it is missing. 1: it is not, and what is wrong is printed. 2: it was called wrongly.

--key     the id of the gateway's signing key, as you know it from elsewhere. Without it a thief who signed everything
          anew with a key of their own would not be found out: the archive's own key would be believed.
--head    a head that you kept or were sent earlier (JSON, one a line): the copy must reach it, unchanged.
--tsa-ca  certificates of the timestamp authority: the timestamps in the archive are then verified, too.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GENESIS = "0" * 64
ENVELOPE = ("at", "content", "kid", "kind", "prev", "seq", "sig", "tags", "v")
HEAD = ("at", "by", "gateway", "hash", "seq", "v")
PUBLIC_KEY_PREFIX = 12
"""Bytes before the 32 of the key itself in an Ed25519 public key (RFC 8410)."""


class WrongError(Exception):
    """The archive is not what it ought to be. The message says how."""


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def spelled(value: Any) -> bytes:
    """The one spelling of a JSON value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """A file's SHA-256, piece by piece."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def read_object(line: bytes, what: str) -> dict[str, Any]:
    """A JSON object in its one spelling."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise WrongError(f"{what}: no JSON") from None
    if not isinstance(found, dict) or spelled(found) != line:
        raise WrongError(f"{what}: not in the spelling that was signed")
    return found


def lines_of(path: Path) -> Iterator[bytes]:
    """A file's lines."""
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    raise WrongError(f"{path.name}: the last line is unfinished")
                yield line[:-1]


# ------------------------------------------------------------------------------------------------ signatures


class Keys:
    """Public keys by their ids; openssl does the arithmetic."""

    def __init__(self, directory: Path, workshop: Path, wanted: list[str]) -> None:
        self._workshop = workshop
        self._files: dict[str, Path] = {}
        for path in sorted(directory.glob("*.pem")):
            self._files[key_id(path.read_text())] = path
        for kid in wanted:
            if kid not in self._files:
                have = ", ".join(self._files) or "none"
                raise WrongError(f"the archive is not signed with the key {kid}: it brings {have}")
        self._wanted = wanted
        self.used: dict[str, int] = {}

    def check(self, purpose: str, name: str, body: bytes, kid: str, signature: str, what: str) -> None:
        """Have a signature verified (Ed25519 over purpose, name and body)."""
        path = self._files.get(kid)
        if path is None or (self._wanted and kid not in self._wanted):
            raise WrongError(f"{what}: signed with the key {kid}, which is none of the gateway's")
        message, given = self._workshop / "message", self._workshop / "signature"
        message.write_bytes(b"portcullis\0" + purpose.encode() + b"\0" + name.encode() + b"\0" + body)
        try:
            given.write_bytes(base64.b64decode(signature, validate=True))
        except ValueError:
            raise WrongError(f"{what}: the signature is no base64") from None
        done = openssl(
            "pkeyutl", "-verify", "-pubin", "-inkey", path, "-rawin", "-in", message, "-sigfile", given
        )  # fmt: skip
        if done.returncode:
            raise WrongError(f"{what}: the signature does not fit")
        self.used[kid] = self.used.get(kid, 0) + 1


def openssl(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    """Run openssl; its words are kept."""
    try:
        return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        raise WrongError("openssl is not there: install it (3.0 or newer)") from None


def key_id(pem: str) -> str:
    """A public key's id: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    body = "".join(line for line in pem.splitlines() if not line.startswith("-----"))
    return sha256(base64.b64decode(body)[PUBLIC_KEY_PREFIX:])[:16]


# ------------------------------------------------------------------------------------------------ the chain


class Chain:
    """Follows the entries. ``ends``: number and hash of the last one."""

    def __init__(self, keys: Keys, tag: str | None, signatures: int) -> None:
        self._keys = keys
        self._tag = tag
        self._signatures = signatures
        self._revision: tuple[int, str] | None = None
        self.begins = 0
        self.ends: tuple[int, str] | None = None
        self.whole = self.left_out = 0
        self.hashes: dict[int, str] = {}

    def take(self, line: bytes, wanted: set[int]) -> None:
        """The next entry. ``wanted``: numbers whose hashes are asked for later."""
        said = read_object(line, f"the entry after {self.ends and self.ends[0]}")
        if set(said) - {"body"} != set(ENVELOPE):
            raise WrongError("an entry has other fields than entries have")
        number = said["seq"]
        if self.ends is None:
            self.begins = number
        elif number != self.ends[0] + 1:
            raise WrongError(f"entry {number} comes after entry {self.ends[0]}")
        elif said["prev"] != self.ends[1]:
            raise WrongError(f"entry {number} does not hold the entry before it: one of the two was changed")
        self._look_inside(said)
        envelope = {name: said[name] for name in ENVELOPE}
        self.ends = (number, sha256(spelled(envelope)))
        if number in wanted:
            self.hashes[number] = self.ends[1]

    def _look_inside(self, said: dict[str, Any]) -> None:
        number = said["seq"]
        if "body" not in said:
            self.left_out += 1
            if self._tag is None or self._tag in said["tags"]:
                raise WrongError(f"entry {number} is left out, and ought to be here")
            return
        self.whole += 1
        if sha256(spelled(said["body"])) != said["content"]:
            raise WrongError(f"entry {number}: the content was changed")
        if self.whole <= self._signatures:
            core = {name: said[name] for name in ENVELOPE if name not in ("kid", "sig")}
            self._keys.check("evidence", sha256(spelled(core)), b"", said["kid"], said["sig"], f"entry {number}")
        if said["kind"] == "revision":
            self._revisions(said["body"]["entry"], number)

    def _revisions(self, entry: dict[str, Any], number: int) -> None:
        """Revisions are a chain of their own, inside."""
        bare = {name: value for name, value in entry.items() if name not in ("hash", "kid", "sig")}
        if sha256(spelled(bare)) != entry["hash"]:
            raise WrongError(f"entry {number}: revision {entry['rev']} was changed")
        last, self._revision = self._revision, (entry["rev"], entry["hash"])
        if last is not None and last[0] + 1 == entry["rev"] and entry["prev"] != last[1]:
            raise WrongError(f"entry {number}: revision {entry['rev']} does not follow from {last[0]}")


# ------------------------------------------------------------------------------------------------ heads


def read_heads(lines: Iterator[bytes], keys: Keys, what: str) -> list[dict[str, Any]]:
    """Heads, their signatures verified."""
    found = []
    for line in lines:
        if line.strip():
            head = read_object(line, what)
            digest = sha256(spelled({name: head[name] for name in HEAD}))
            if digest != head.get("digest") or set(head) != {*HEAD, "digest", "kid", "sig"}:
                raise WrongError(f"{what}: the head of entry {head.get('seq')} was changed")
            keys.check("head", digest, b"", head["kid"], head["sig"], f"{what}: the head of entry {head['seq']}")
            found.append(head)
    return found


def held_lines(path: Path) -> Iterator[bytes]:
    """Heads that somebody kept, however they spelled them."""
    for line in path.read_bytes().splitlines():
        if line.strip():
            yield spelled(json.loads(line))


def compare(chain: Chain, heads: list[dict[str, Any]], what: str) -> None:
    """Look whether the chain is what heads say."""
    assert chain.ends is not None
    for head in heads:
        if head["seq"] > chain.ends[0]:
            raise WrongError(
                f"{what}: the copy ends at entry {chain.ends[0]}, but the head of {head['at']} knows entry "
                f"{head['seq']}: the end was cut off"
            )
        if head["seq"] >= chain.begins and chain.hashes[head["seq"]] != head["hash"]:
            raise WrongError(f"{what}: entry {head['seq']} is not the one that was signed at {head['at']}")


def stamped(directory: Path, workshop: Path, authority: Path) -> int:
    """Verify timestamps (RFC 3161) of heads; how many."""
    count = 0
    known = {json.loads(line)["digest"] for line in lines_of(directory / "heads.jsonl")}
    for line in lines_of(directory / "timestamps.jsonl"):
        stamp = json.loads(line)
        if stamp["digest"] not in known:
            raise WrongError(f"a timestamp is of the head {stamp['digest']}, which is not here")
        answer = workshop / "answer.tsr"
        answer.write_bytes(base64.b64decode(stamp["response"]))
        done = openssl("ts", "-verify", "-digest", stamp["digest"], "-in", answer, "-CAfile", authority)
        if done.returncode:
            raise WrongError(f"the timestamp of entry {stamp['seq']} does not fit: {done.stderr.decode().strip()}")
        count += 1
    return count


# ------------------------------------------------------------------------------------------------ all of it


def verify(given: argparse.Namespace, workshop: Path) -> None:
    """Verify everything, and say what was found."""
    directory: Path = given.directory
    keys = Keys(directory / "keys", workshop, given.key)
    manifest = check_manifest(directory, keys)
    order = manifest["order"]
    tag = None if order is None else sha256(b"order\0" + order.encode())[:32]
    heads = read_heads(lines_of(directory / "heads.jsonl"), keys, "heads.jsonl")
    held = [head for path in given.head for head in read_heads(held_lines(path), keys, path.name)]
    chain = Chain(keys, tag, given.signatures)
    wanted = {head["seq"] for head in (*heads, *held)}
    for count, line in enumerate(lines_of(directory / "evidence.jsonl"), 1):
        chain.take(line, wanted)
        if count % 50_000 == 0:
            say(f"  … {count} entries")
    if chain.ends is None or not heads:
        raise WrongError("there is no entry, or no head")
    compare(chain, heads, "heads.jsonl")
    compare(chain, held, "held heads")
    if heads[-1]["seq"] != chain.ends[0]:
        raise WrongError(f"no head covers what comes after entry {heads[-1]['seq']}")
    stamps = stamped(directory, workshop, given.tsa_ca) if given.tsa_ca else None
    report(chain, heads, keys, manifest, given, stamps)


def check_manifest(directory: Path, keys: Keys) -> dict[str, Any]:
    """The list of files: signed, and each file as it is listed."""
    try:
        raw = (directory / "manifest.json").read_bytes()
        seal = json.loads((directory / "manifest.sig").read_bytes())
    except (OSError, ValueError) as error:
        raise WrongError(f"manifest: {error}") from None
    keys.check("archive", sha256(raw), b"", seal["kid"], seal["sig"], "manifest.json")
    manifest: dict[str, Any] = json.loads(raw)
    for name, digest in manifest["files"].items():
        if file_digest(directory / name) != digest:
            raise WrongError(f"{name}: not as it was when the archive was made")
    return manifest


def report(
    chain: Chain, heads: list[dict[str, Any]], keys: Keys, manifest: dict[str, Any], given: argparse.Namespace,
    stamps: int | None,
) -> None:  # fmt: skip
    """Say what holds, and what is not shown by it."""
    assert chain.ends is not None
    about = f"order {manifest['order']}" if manifest["order"] else "everything"
    say(f"SOUND: {about} at {manifest['gateway']}, entries {chain.begins} to {chain.ends[0]}, none missing or changed")
    say(f"  {chain.whole} entries whole, {chain.left_out} about other things left out (their digests are in the chain)")
    say(f"  {len(heads)} signed heads agree; the last is of {heads[-1]['at']}")
    for kid, count in keys.used.items():
        say(f"  key {kid}: {count} signatures verified by openssl")
    if not given.key:
        say("  NOT ANCHORED: compare the key's id with one you know from elsewhere, or give it with --key")
    if given.head:
        say("  the heads that you held are reached, unchanged")
    if stamps is not None:
        say(f"  {stamps} timestamps of the authority verified")
    say("What this cannot show is written in report.html and in README.txt.")


def main() -> int:
    """Read the arguments, verify, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("directory", type=Path, nargs="?", default=Path(__file__).resolve().parent)
    parser.add_argument("--key", action="append", default=[], metavar="KEY_ID")
    parser.add_argument("--head", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument("--tsa-ca", type=Path, metavar="FILE")
    parser.add_argument("--signatures", type=int, default=2000, metavar="N", help="of so many entries one by one")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as workshop:
            verify(given, Path(workshop))
    except (WrongError, KeyError, TypeError, ValueError, OSError) as error:
        say(f"NOT SOUND: {error if isinstance(error, WrongError) else repr(error)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
