"""What a scrape costs: ``python tests/benchmarks/bench_scrape.py``. Times are of one core, the median of many.

The catalog's size is what multiplies series: so it is scraped with few models and with many.
"""

import statistics
import sys
import time
from collections.abc import Callable

from gateway.observability.metrics import METRICS, Counters, Sample, expose

WORKERS = 8
PROVIDERS = tuple(f"provider-{n}" for n in range(5))
REASONS = ("", "model_offline", "restricted", "attribute_unknown", "policy_stale", "unauthenticated")


def counted(models: int) -> Counters:
    """A worker that has met every model at every provider, permitted and refused for every reason."""
    counters = Counters()
    for definition in METRICS:
        if definition.kind == "counter" and not definition.labels:
            counters.born(definition.name)
    for number in range(models):
        model = f"model-{number}"
        for provider in PROVIDERS:
            for reason in REASONS:
                decision = "deny" if reason else "permit"
                counters.add("portcullis_requests_total", (provider, model, decision, reason))
        for reason in REASONS[1:4]:
            counters.add("portcullis_blocked_total", (model, reason))
            counters.add("portcullis_blocked_by_restriction_total", (model, reason, "d-1"))
    for provider in PROVIDERS:
        for name in ("admission", "upstream_first_byte", "upstream_duration"):
            counters.observe(f"portcullis_{name}_seconds", (provider,), 0.1)
    return counters


def milliseconds(work: Callable[[], object], times: int) -> float:
    """The median of so many."""
    took = []
    for _ in range(times):
        began = time.process_time()
        work()
        took.append((time.process_time() - began) * 1000)
    return statistics.median(took)


def main(times: int = 30) -> None:
    """Print a table."""
    print(
        f"{'models':>7} {'series':>8} {'KiB':>7} {'a worker: ms':>13} {'the control process: ms':>24}   ({WORKERS} workers)"
    )
    for models in (10, 100, 1000):
        worker = counted(models)
        sources: list[list[Sample]] = [worker.samples() for _ in range(WORKERS)]
        text = expose(sources)
        series = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
        asked = milliseconds(worker.samples, times)
        exposed = milliseconds(lambda sources=sources: expose(sources), max(3, times // (models // 10)))
        print(f"{models:>7} {series:>8} {len(text) // 1024:>7} {asked:>13.2f} {exposed:>24.1f}")
    counters = Counters()
    count = 100_000
    adding = milliseconds(lambda: [counters.add("portcullis_blocked_total", ("m", "r")) for _ in range(count)], 5)
    print(f"one count: {adding / count * 1e6:.0f} ns")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
