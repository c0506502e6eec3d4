"""Feed one target by coverage, with atheris: ``make fuzz``, or ``fuzz_atheris.py json --seconds 60`` (of CPU).

What it finds is written to the directory that ``--found`` names; the found bytes go into ``fuzz_found.py``, minimised.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gateway.dialects", "gateway.proxy", "multipart", "wsproto"]):
    import fuzz_targets

from fuzz_seeds import WORDS, mutated, seeds


def _dictionary(path: Path) -> None:
    lines = ('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS)
    path.write_text("".join(lines))


def _mutate(data: bytes, most: int, seed: int) -> bytes:
    """Half of the changes are libFuzzer's, which know what was covered; half are ours, which know what means something."""
    pick = random.Random(seed)
    return mutated(data, pick)[:most] if pick.random() < 0.5 else atheris.Mutate(data, most)


def main() -> None:
    """Run for some seconds of CPU, or until something is found."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("target", choices=fuzz_targets.TARGETS)
    arguments.add_argument("--seconds", type=int, default=60)
    arguments.add_argument("--found", type=Path, default=Path("build/fuzz/found"))
    options = arguments.parse_args()

    corpus = options.found / f"corpus-{options.target}"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(options.target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    _dictionary(options.found / "words.dict")

    others = fuzz_targets.Others(node=True)
    target = fuzz_targets.TARGETS[options.target]
    counted = {"tried": 0, "ended": 0}

    def feed(data: bytes) -> None:
        counted["tried"] += 1
        if counted["tried"] % 100 == 0 and time.process_time() > options.seconds and not counted["ended"]:
            counted["ended"] = 1
            print(f"{options.target}: {counted['tried']} tried, {others.read} of them read by ours", flush=True)
            os.kill(os.getpid(), signal.SIGUSR1)  # libFuzzer's way to end with its figures
        target(data, others)

    atheris.Setup(
        [
            sys.argv[0], str(corpus), "-max_len=3000", "-timeout=20", "-rss_limit_mb=1500",
            f"-dict={options.found / 'words.dict'}", f"-artifact_prefix={options.found}/{options.target}-", "-print_final_stats=1",
        ],
        feed,
        custom_mutator=_mutate,
    )  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main()
