"""How ``audit verify`` finds what a copy consists of: files, keys, heads."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.cli.exits import Exit, Failure
from gateway.enforcement.keyring import read_verifier
from gateway.enforcement.mirror import HEADS, lines, lines_of, segments
from gateway.enforcement.signing import ForgedError, Verifier, key_id, public_keys
from gateway.enforcement.verifying import Progress, Verified, head_lines, verify
from gateway.settings import Settings, SettingsError, load


def verified(
    directory: Path | None, wanted: list[str], held: list[Path], config: Path | None, progress: Progress
) -> tuple[Verified, list[str]]:
    """What a copy is, and notes about it.

    Raises:
        Failure: there is nothing to verify, or nothing to verify it with.
    """
    settings = None if directory is not None else _settings(config)
    place = directory or (settings.mirror if settings is not None else Path())
    try:
        verifier, notes = _verifier(place, wanted, settings, config)
        entries, heads, order = _files(place)
        heads_held = [line for path in held for line in head_lines(path.read_bytes())]
        return verify(entries, heads, verifier, held=heads_held, order=order, progress=progress), notes
    except ForgedError as error:
        return Verified(faults=[str(error)]), []
    except OSError as error:
        raise Failure(Exit.USAGE, f"{error.filename or place}: {error.strerror}") from None


def _settings(config: Path | None) -> Settings:
    try:
        return load(config)
    except SettingsError as error:
        raise Failure(Exit.USAGE, str(error)) from None


def _files(place: Path) -> tuple[Iterable[bytes], Iterator[bytes], str | None]:
    """Entries, heads, and the order that it is about: of an archive, or of a mirror."""
    archive, heads = place / "evidence.jsonl", place / HEADS
    signed = lines_of(heads) if heads.exists() else iter(())
    if archive.exists():
        order = json.loads((place / "manifest.json").read_bytes()).get("order")
        return lines_of(archive), signed, order
    if not segments(place):
        raise Failure(Exit.USAGE, f"{place} holds neither an archive nor a mirror")
    return lines(place), signed, None


def _verifier(
    place: Path, wanted: list[str], settings: Settings | None, config: Path | None
) -> tuple[Verifier, list[str]]:
    """The keys to verify with: those that are named, else those that this machine trusts, else the copy's own.

    Raises:
        Failure: a key that is named is not there.
    """
    brought = [key for path in sorted(place.glob("keys/*.pem")) for key in public_keys(path.read_bytes(), path)]
    if wanted:
        return Verifier(*(_named(name, brought) for name in wanted)), []
    if settings is not None or config is not None:
        try:
            return read_verifier(settings or _settings(config)), []
        except SettingsError as error:
            raise Failure(Exit.USAGE, str(error)) from None
    if not brought:
        raise Failure(Exit.USAGE, "say with which key: --key FILE.pem, or --config of the gateway")
    ids = ", ".join(map(key_id, brought))
    return Verifier(*brought), [f"NOT ANCHORED: the key {ids} came with the copy; give the one you know with --key"]


def _named(name: str, brought: list[Ed25519PublicKey]) -> Ed25519PublicKey:
    path = Path(name)
    if path.exists():
        return public_keys(path.read_bytes(), path)[0]
    found = next((key for key in brought if key_id(key) == name), None)
    if found is None:
        have = ", ".join(map(key_id, brought)) or "none"
        raise ForgedError(f"the copy is not signed with the key {name}: it brings {have}")
    return found
