"""What the policy costs: ``python tests/benchmarks/bench_policy.py``.

Times are the best of several runs, on one core. The aims: a remembered decision 1 µs, a first decision under 1,000
directives 200 µs, 1,000 models × 1,000 directives compiled in 100 ms.
"""

import fnmatch
import gc
import re
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gateway.policy.caller import Caller, Facts, Kind
from gateway.policy.document import Document, dump, load
from gateway.policy.snapshot import MEMO_LIMIT, Asked, Snapshot

AT = datetime(2026, 6, 12, 21, 21, tzinfo=UTC)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COUNTRIES = [a + b for a in LETTERS for b in LETTERS if a + b != "US"]
US_PERSON = {
    "any": [
        {"nationality": {"any_of": ["US"]}},
        {"permanent_residence": {"any_of": ["US"]}},
        {"legal_status": {"any_of": ["us-protected-individual"]}},
    ]
}
ALICE = Caller("alice", Facts(Kind.PERSON, None, *[frozenset({"US"})] * 3, frozenset()))
FIRST = Asked("anthropic", ("model-0",))


def document(directives: list[dict[str, Any]], models: int = 1_000) -> Document:
    """A policy of so many models in 20 families."""
    catalog = {
        f"model-{i}": {
            "routes": [{"provider": "anthropic", "names": [f"model-{i}", f"model-{i}-latest"]}],
            "family": f"family-{i % 20}",
            "tags": ["controlled"] if i % 10 == 0 else [],
        }
        for i in range(models)
    }
    made = {"state": "in_force", "by": "op", "at": AT}
    return Document.model_validate(
        {
            "gateway": "bench",
            "models": catalog,
            "groups": {"d5": {"countries": COUNTRIES[:40]}},
            "terms": {"us-person": {"condition": US_PERSON}},
            "directives": {f"directive-{i}": {**made, **fields} for i, fields in enumerate(directives)},
        }
    )


def one(i: int) -> dict[str, Any]:
    """Conditions that all differ: one country each, and some a term or an exception as well."""
    country = {"nationality": {"any_of": [COUNTRIES[i % len(COUNTRIES)]]}}
    residence = {"permanent_residence": {"any_of": [COUNTRIES[-1 - i % len(COUNTRIES)]]}}
    match i % 4:
        case 0:
            return {"who": country}
        case 1:
            return {"who": {"all": [country, residence]}}
        case 2:
            return {"who": {"all": [{"not": {"term": "us-person"}}, country]}}
        case _:
            return {"who": {"any": [country, residence]}, "except": [{"org": {"any_of": [f"org-{i}"]}}]}


def simple(i: int) -> dict[str, Any]:
    """One test each, no two alike."""
    return {"who": {"nationality": {"any_of": [COUNTRIES[i % 600], COUNTRIES[i // 600 + 600]]}}}


def alike(i: int) -> dict[str, Any]:
    """What orders say: one of a few conditions."""
    return [
        {"who": {"not": {"term": "us-person"}}, "except": [{"org": {"any_of": ["acme"]}}]},
        {"who": {"nationality": {"any_of": ["group:d5"]}}},
        {"who": {"latest_nationality": {"any_of": ["CN", "IR"]}}, "except": [{"term": "us-person"}]},
        {"who": {"all": [{"nationality": {"any_of": ["CN"]}}, {"kind": {"any_of": ["service"]}}]}},
    ][i % 4]


def best(work: Callable[[], Any], runs: int) -> float:
    """Seconds of the fastest run."""
    times = []
    gc.collect()
    gc.disable()
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    gc.enable()
    return min(times)


def first_decision(policy: Document) -> float:
    """Seconds for a caller who is permitted: every directive is looked at."""
    snapshot = Snapshot(policy, 1, AT)
    facts = ALICE.facts

    def decide() -> None:
        snapshot._memo.clear()
        snapshot.decide(ALICE, FIRST)

    assert snapshot.decide(Caller("alice", facts), FIRST).revision == 1
    assert not hasattr(snapshot.decide(ALICE, FIRST), "reason"), snapshot.decide(ALICE, FIRST)
    return best(decide, 200)


def remembered(policy: Document, *, fresh: bool) -> float:
    """Seconds per decision out of the memo; ``fresh``: what a request asks is a new object each time."""
    snapshot = Snapshot(policy, 1, AT)
    asked = [Asked("anthropic", (f"model-{i % 50}",)) for i in range(20_000)] if fresh else [FIRST] * 20_000
    decide = snapshot.decide
    for ask in asked[:50]:
        decide(ALICE, ask)

    def loop() -> None:
        for ask in asked:
            decide(ALICE, ask)

    return best(loop, 20) / len(asked)


def compiling(policy: Document) -> float:
    """Seconds for a snapshot, with no pattern known from the last one."""

    def compile_cold() -> None:
        fnmatch._compile_pattern.cache_clear()
        re.purge()
        Snapshot(policy, 1, AT)

    return best(compile_cold, 5)


def memory_per_caller(policy: Document, callers: int = 20_000) -> float:
    """Bytes that the memo keeps for a caller who is a profile of its own and asked once."""
    snapshot = Snapshot(policy, 1, AT)
    people = [Caller(f"c{i}", Facts(Kind.PERSON, f"org-{i}", *[frozenset({"US"})] * 3)) for i in range(callers)]
    gc.collect()
    tracemalloc.start()
    for person in people:
        snapshot.decide(person, FIRST)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(snapshot._memo) == callers < MEMO_LIMIT
    return taken / callers


def main() -> None:
    """Measure and print."""
    thousand = range(1_000)
    on_one = {"models": ["model-0"]}
    by_id = document([{"models": [f"model-{i}"], **alike(i)} for i in thousand])
    mixed = document(
        [
            {
                "models": [[f"model-{i}"], [f"family:family-{i % 20}"], ["tag:controlled"], [f"model-{i}*"]][i % 4],
                **one(i),
            }
            for i in thousand
        ]
    )
    rows = [
        ("a remembered decision, same objects", "1 µs", remembered(by_id, fresh=False)),
        ("a remembered decision, a new request each time", "1 µs", remembered(by_id, fresh=True)),
        ("first decision, 1,000 directives over 1,000 models", "200 µs", first_decision(by_id)),
        (
            "first decision, 1,000 on one model, four conditions",
            "200 µs",
            first_decision(document([{**on_one, **alike(i)} for i in thousand])),
        ),
        (
            "first decision, 1,000 on one model, one test each, all differ",
            "200 µs",
            first_decision(document([{**on_one, **simple(i)} for i in thousand])),
        ),
        (
            "first decision, 1,000 on one model, terms and exceptions, all differ",
            "200 µs",
            first_decision(document([{**on_one, **one(i)} for i in thousand])),
        ),
        ("compile 1,000 × 1,000, each directive on one model", "100 ms", compiling(by_id)),
        ("compile 1,000 × 1,000, by id, family, tag and glob", "100 ms", compiling(mixed)),
        (
            "compile 1,000 × 1,000, each directive on all models",
            "100 ms",
            compiling(document([{"models": ["*"], **one(i)} for i in thousand])),
        ),
        ("read the document from its bytes, checks included", "", best(lambda: load(dump(mixed)), 3)),
    ]
    width = max(len(name) for name, _, _ in rows)
    for name, aim, seconds in rows:
        value = f"{seconds * 1e3:9.2f} ms" if seconds > 1e-3 else f"{seconds * 1e6:9.2f} µs"
        print(f"{name:<{width}}  {value}   {f'aim {aim}' if aim else ''}")
    print(f"{'memory per cached caller and model':<{width}}  {memory_per_caller(by_id):9.0f} bytes")


if __name__ == "__main__":
    sys.exit(main())
