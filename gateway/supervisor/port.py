"""The workers' port: one listening socket per slot, all bound to it with ``SO_REUSEPORT``.

The kernel spreads new connections over the sockets that listen, and queues them there. The supervisor holds every
socket, and every worker inherits all of them: a worker that ends closes its descriptor, not the queue, so that its
successor or a sibling takes up what waits. Only ``refuse`` throws a queue away: ``shutdown`` of a listening socket
takes it out of the group at once, for all processes that hold it, until somebody calls ``listen`` again.
"""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WORKER_MODULE = "gateway.proxy.worker"
_LISTENING = "0A"


class PortTakenError(Exception):
    """Somebody else listens there. The message says who, and what to do."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a listening socket there. ``control``: of a worker of ours, its control process' id."""

    pid: int
    parent: int
    control: int | None

    @property
    def orphan(self) -> bool:
        """Whether it is a worker whose control process is gone."""
        return self.control is not None and self.control != self.parent


class Port:
    """The sockets. ``orphans``: workers that a killed control process left behind; they listen there too."""

    def __init__(self, listen: str, slots: int) -> None:
        host, _, number = listen.rpartition(":")
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._host = host.strip("[]")
        self.orphans = self._probe(int(number))
        with self._bind(int(number)) as first:
            self.number: int = first.getsockname()[1]
            # by its number, never as port 0: the kernel takes a port that it chose away again on shutdown
            self.sockets = [self._bind(self.number) for _ in range(slots)]
        self.listen = f"{host}:{self.number}"

    def _probe(self, number: int) -> list[int]:
        """Find out who is there: without SO_REUSEPORT, for two gateways must not share a port by mistake.

        Raises:
            PortTakenError: somebody who is no orphan of ours.
        """
        with socket.socket(self._family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, number))
            except OSError as error:
                there = holders(number)
                if there and all(holder.orphan for holder in there):
                    return [holder.pid for holder in there]
                raise PortTakenError(_who(error, there)) from None
        return []

    def _bind(self, number: int) -> socket.socket:
        bound = socket.socket(self._family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((self._host, number))
        return bound

    def refuse(self, slot: int) -> None:
        """Nobody will accept from this slot for a while: clients are turned away, not left to wait."""
        with contextlib.suppress(OSError):  # it does not listen
            self.sockets[slot].shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Let go of the port."""
        for bound in self.sockets:
            bound.close()


def _who(error: OSError, there: list[Holder]) -> str:
    if not there:
        return error.strerror or str(error)
    pids = " ".join(str(holder.pid) for holder in there if holder.control is None or holder.orphan)
    return f"{error.strerror} by process {pids}: end it (kill {pids}), or choose another proxy.listen"


def holders(port: int) -> list[Holder]:
    """Whoever listens on a port, as far as this user may see it; nobody where there is no ``/proc``."""
    inodes = set(_inodes(port))
    found = (_holder(process, inodes) for process in Path("/proc").glob("[0-9]*")) if inodes else ()
    return sorted((holder for holder in found if holder is not None), key=lambda holder: holder.pid)


def _inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for row in Path(table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = row.split()[:10]
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    yield f"socket:[{inode}]"


def _holder(process: Path, inodes: set[str]) -> Holder | None:
    try:
        if not any(str(link.readlink()) in inodes for link in (process / "fd").iterdir()):
            return None
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
    except OSError:  # somebody else's, or gone meanwhile
        return None
    worker = WORKER_MODULE in words and "--group" in words
    return Holder(int(process.name), int(parent), int(words[words.index("--group") + 1]) if worker else None)
