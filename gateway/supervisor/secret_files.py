"""Files that hold providers' secrets, followed: a key that is rotated where it is mounted is taken up by itself.

Workers read them as they start, so that a change is one hot restart. Looked at every second, and by name: a mounted
secret changes as a link to its directory is swapped, which no watch on the file would see.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.settings import Settings

LOOK_SECONDS = 1.0

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Modification time, inode and size of each file; ``None`` for one that is not there."""


def secret_files(settings: Settings) -> tuple[Path, ...]:
    """Every file that a provider's secrets are read from. Those of TLS are followed by each worker."""
    named: list[Path | None] = []
    for provider in settings.providers.values():
        named += [provider.api_key_file, provider.proxy_file]
        named += [] if provider.aws is None else [provider.aws.secret_access_key_file]
    return tuple(file for file in named if file is not None)


def look(files: tuple[Path, ...]) -> Stamp:
    """How the files are now."""
    return tuple(_mark(file) for file in files)


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


async def follow(settings: Callable[[], Settings], changed: Callable[[], Awaitable[None]]) -> None:
    """Call ``changed`` whenever one of the files has changed, and is no longer changing. For ever."""
    files = secret_files(settings())
    taken = last = await asyncio.to_thread(look, files)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if secret_files(settings()) != files:  # other settings were taken up, and with them these files
            files = secret_files(settings())
            taken = last = await asyncio.to_thread(look, files)
            continue
        now = await asyncio.to_thread(look, files)
        if now == last != taken:
            taken = now
            await changed()
        last = now
