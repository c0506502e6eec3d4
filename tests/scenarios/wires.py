"""A machine of its own for a gateway, as far as its network goes, and a wire to Redis that can be pulled.

A network namespace with two links: one to Redis, one to clients and the provider. Where the machine allows none, a TCP
proxy on the way to Redis that lets nothing through; then clients and provider are reached as ever.
"""

import asyncio
import os
import subprocess
from dataclasses import dataclass

from cluster import free_port
from line import Line
from system import System


def ip(*words: str) -> bool:
    return subprocess.run(["ip", *words], check=False, capture_output=True).returncode == 0


@dataclass
class Namespace:
    """Addresses: x.1 is here, x.2 is in there."""

    name: str = ""
    kind = "a network namespace of its own"

    def __post_init__(self) -> None:
        self.number = os.getpid() % 200 + 20
        self.name = f"pc-{os.getpid()}"

    def make(self) -> bool:
        """Whether the machine allows it."""
        return ip("netns", "add", self.name) and self._link("r", 1) and self._link("c", 2)

    def _link(self, kind: str, subnet: int) -> bool:
        here, there = f"pc{kind}{self.number}h", f"pc{kind}{self.number}t"
        return (
            ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
            and ip("addr", "add", f"{self.address(subnet)}1/30", "dev", here)
            and ip("link", "set", here, "up")
            and ip("-n", self.name, "addr", "add", f"{self.address(subnet)}2/30", "dev", there)
            and ip("-n", self.name, "link", "set", there, "up")
            and ip("-n", self.name, "link", "set", "lo", "up")
        )

    def address(self, subnet: int) -> str:
        return f"10.{self.number}.{subnet}."

    async def lead(self, system: System, redis_port: int) -> None:
        """Have a gateway run in there, with Redis at the other end of the wire."""
        place = f"{self.address(2)}2"
        system.inside = ("ip", "netns", "exec", self.name)
        system.env |= {
            "PORTCULLIS_PROXY__LISTEN": f"{place}:{free_port()}",
            "PORTCULLIS_ADMIN__LISTEN": f"{place}:{free_port()}",
            "PORTCULLIS_REDIS__URL": f"redis://{self.address(1)}1:{redis_port}",
        }

    @property
    def provider(self) -> str:
        return f"{self.address(2)}1"

    def cut(self) -> None:
        ip("link", "set", f"pcr{self.number}h", "down")

    def restore(self) -> None:
        ip("link", "set", f"pcr{self.number}h", "up")

    async def remove(self) -> None:
        for kind in "rc":
            ip("link", "del", f"pc{kind}{self.number}h")
        ip("netns", "del", self.name)


class Proxied:
    """The same wire as a TCP proxy."""

    kind = "a TCP proxy that lets nothing through (no network namespace is to be had here)"
    provider = "127.0.0.1"

    async def lead(self, system: System, redis_port: int) -> None:
        self.line = Line(lambda: asyncio.open_connection("127.0.0.1", redis_port))
        await self.line.start()
        system.env["PORTCULLIS_REDIS__URL"] = f"redis://127.0.0.1:{self.line.port}"

    def cut(self) -> None:
        self.line.silence()

    def restore(self) -> None:
        self.line.restore()

    async def remove(self) -> None:
        await self.line.stop()


async def wire() -> Namespace | Proxied:
    namespace = Namespace()
    if namespace.make():
        return namespace
    await namespace.remove()
    return Proxied()
