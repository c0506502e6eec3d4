"""A long chain of evidence: verified, exported, verified by the archive's own script, read by pages, in flat memory.

``.venv/bin/python tests/benchmarks/bench_evidence.py [ENTRIES]``; a million by default. Each step runs in a process of
its own, which says how long it took and how much memory it had at the most; nothing is asserted.
"""

import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis import Redis

from gateway.control.export import Archive
from gateway.embedded import find_server
from gateway.enforcement.chain import Place, linked, signed_head
from gateway.enforcement.mirror import HEADS, Mirror, lines, lines_of
from gateway.enforcement.signing import Signer
from gateway.enforcement.verifying import verify
from gateway.policy.document import canonical

AT = "2026-06-12T18:00:00.000+00:00"
BATCH = 1000
KEY = bytes(range(32))
ORDER_EVERY = 1000
"""One entry of so many is about the order that is exported."""


def signer() -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(KEY))


def body(number: int) -> dict:
    return {
        "revision": number, "state": "enforced", "enforced": True, "basis": "all_acked", "committed_at": AT,
        "elapsed_ms": 1.5, "streams_cut": 0, "draining": 0, "models": ["claude-fable-5"],
        "replicas": {"expected": 2, "live": 2, "list": [{"id": f"w-{i}", "state": "acked", "ms": 1.25} for i in (0, 1)]},
    }  # fmt: skip


def make(directory: Path, count: int) -> None:
    key, last, batch = signer(), Place(), []
    mirror = Mirror(directory, key)
    mirror._verifier = None  # they are ours: what is measured is reading
    for number in range(1, count + 1):
        orders = ["o-1"] if number % ORDER_EVERY == 1 else []
        last, line = linked(key, last, "note", AT, orders, body(number))
        batch.append(line)
        if len(batch) == BATCH or number == count:
            mirror.append(batch)
            batch = []
    head = signed_head(key, "bench", AT, last, "here")
    (directory / HEADS).write_bytes(canonical(head.view()) + b"\n")


def check(directory: Path, _: int) -> None:
    found = verify(lines(directory), lines_of(directory / HEADS), signer(), progress=progress)
    print(f"    {found.entries} entries, sound: {found.sound}")


def progress(count: int) -> None:
    if count % 250_000 == 0:
        print(f"    … {count}", flush=True)


class Counted:
    """A file that a ZIP is streamed into."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def finish(self) -> None:
        self._file.close()


def export(directory: Path, _: int, order: str | None = None) -> None:
    key = signer()
    head = signed_head(key, "bench", AT, Mirror(directory, key).last, "here")
    target = directory.parent / f"{order or 'all'}.zip"
    first = 1 if order else 0
    Archive(directory, key, "bench", head, order, first, {}, "me", AT).write(Counted(target))
    print(f"    {target.stat().st_size / 1e6:.1f} MB")


def export_order(directory: Path, count: int) -> None:
    export(directory, count, "o-1")


def script(directory: Path, _: int) -> None:
    for name in ("all", "o-1"):
        copy = directory.parent / f"copy-{name}"
        with zipfile.ZipFile(directory.parent / f"{name}.zip") as archive:
            archive.extractall(copy)
        began = time.monotonic()
        program = [sys.executable, "-I", "-S", copy / "verify.py", "--signatures", "100"]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        print(f"    {name}: {time.monotonic() - began:.1f} s, {done.stdout.splitlines()[-6:][0]}")


def pages(directory: Path, _: int) -> None:
    socket = f"{directory.parent}/redis.sock"
    command = [find_server(), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", str(directory.parent)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            client = Redis(unix_socket_path=socket)
            while True:
                try:
                    client.ping()
                    break
                except Exception:
                    time.sleep(0.01)
            with client.pipeline(transaction=False) as pipe:
                for number, line in enumerate(lines(directory), 1):
                    pipe.xadd("chain", {"line": line}, id=f"{number}-0")
                    if number % BATCH == 0:
                        pipe.execute()
                pipe.execute()
            used = client.info("memory")["used_memory"] / 1e6
            began, count, last, slowest = time.monotonic(), 0, 0, 0.0
            while True:
                asked = time.monotonic()
                found = client.xrange("chain", min=f"{last + 1}-0", count=BATCH)
                slowest = max(slowest, time.monotonic() - asked)
                if not found:
                    break
                count, last = count + len(found), int(found[-1][0].partition(b"-")[0])
            took = time.monotonic() - began
            print(f"    {count} entries in pages of {BATCH}: {took:.1f} s, the slowest page {slowest * 1000:.1f} ms; ")
            print(f"    Redis holds them in {used:.0f} MB")
        finally:
            server.kill()


def measured(name: str, step: Callable[[Path, int], None], directory: Path, count: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(name, step, directory, count))
    process.start()
    process.join()


def _run(name: str, step: Callable[[Path, int], None], directory: Path, count: int) -> None:
    print(name, flush=True)
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(directory, count)
    took, most = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"step": name, "seconds": round(took, 1), "mb_before": before // 1024, "mb_most": most // 1024}))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="pc-bench-") as root:
        directory = Path(root) / "audit"
        for name, step in (
            ("make", make), ("verify", check), ("export all", export), ("export an order", export_order),
            ("verify.py", script), ("pages", pages),
        ):  # fmt: skip
            measured(f"{name}, {count} entries", step, directory, count)


if __name__ == "__main__":
    main()
