"""Metrics: one table, counted in plain integers, merged and exposed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.metrics import BY_NAME, LABELS, METRICS, Counters, expose, merge
from gateway.policy.decision import Deny, Reason
from gateway.proxy.recorder import Recorder

REQUESTS = "portcullis_requests_total"
STANDARD = (
    "process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_resident_memory_bytes",
    "process_start_time_seconds",
)  # fmt: skip
"""prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics: the names that every client library uses."""
FIRST_BYTE = "portcullis_upstream_first_byte_seconds"


class Exposed:
    """The exposition as another program reads it."""

    def __init__(self, text: bytes) -> None:
        families = text_string_to_metric_families(text.decode())
        self._samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        (value,) = [sample.value for sample in self._samples if (sample.name, sample.labels) == (name, labels)]
        return value


def request_labels(provider: str) -> dict[str, str]:
    return {"provider": provider, "model": "m", "decision": "permit", "reason": ""}


@pytest.mark.parametrize("definition", METRICS, ids=[definition.name for definition in METRICS])
def test_every_metric_follows_the_conventions(definition):
    """prometheus.io/docs/practices/naming: prefix, unit at the end, base units, ``_total`` for counters alone."""
    assert re.fullmatch(r"portcullis_[a-z0-9_]+", definition.name) or definition.name in STANDARD
    assert definition.name.endswith("_total") == (definition.kind == "counter")
    assert not re.search(r"_(ms|milliseconds|minutes|kb)(_|$)", definition.name)
    assert definition.help.endswith(".")
    assert bool(definition.buckets) == (definition.kind == "histogram")
    assert list(definition.buckets) == sorted(set(definition.buckets))
    if definition.kind == "histogram":
        assert definition.name.endswith("_seconds")


def test_names_are_unique():
    assert len(BY_NAME) == len(METRICS)


def test_nothing_that_tells_people_apart_is_a_label():
    labels = {label for definition in METRICS for label in definition.labels}
    assert not labels & {"caller", "pseudonym", "nationality", "org", "key", "request_id", "path"}


def test_every_label_says_what_bounds_it():
    assert {label for definition in METRICS for label in definition.labels} == LABELS.keys()


@given(st.lists(st.text(min_size=1), max_size=30))
def test_names_that_clients_make_up_are_one_label(names):
    recorder = Recorder(None, lambda: None, log_permits=True)
    for name in names:
        recorder.fault(Deny(Reason.UNKNOWN_MODEL, 1, model=name, restriction=name), 404, name)
    labels = {(metric, labels) for metric, labels, _ in recorder.counters.samples()}
    assert len(labels) == (4 if names else 0)
    assert not {part for _, labels in labels for part in labels} - {"", "deny", "other", "hold", "4xx", "unknown_model"}


def test_counting():
    counters = Counters()
    labels = ("openai", "gpt-5.4", "permit", "")
    for _ in range(3):
        counters.add(REQUESTS, labels)
    counters.add(REQUESTS, ("openai", "gpt-5.4", "deny", "x"), 0)
    counters.add("portcullis_late_writes_total", by=2)
    assert sorted(counters.samples()) == [
        ("portcullis_late_writes_total", (), 2),
        (REQUESTS, ("openai", "gpt-5.4", "deny", "x"), 0),
        (REQUESTS, labels, 3),
    ]


def test_a_histogram_counts_at_and_below_its_bounds():
    counters = Counters()
    for seconds in (0.001, 0.0005, 0.0011, 600, 601, 10_000):
        counters.observe(FIRST_BYTE, ("openai",), seconds)
    found = Exposed(expose([counters.samples()]))

    def bucket(bound: str) -> float:
        return found.value(f"{FIRST_BYTE}_bucket", provider="openai", le=bound)

    assert (bucket("0.001"), bucket("0.0025"), bucket("600"), bucket("+Inf")) == (2, 3, 4, 6)
    assert found.value(f"{FIRST_BYTE}_count", provider="openai") == 6
    assert found.value(f"{FIRST_BYTE}_sum", provider="openai") == pytest.approx(11_201.0026)


def test_what_several_processes_counted_adds_up():
    one, other = Counters(), Counters()
    for counters, times in ((one, 2), (other, 3)):
        for _ in range(times):
            counters.add(REQUESTS, ("a", "m", "permit", ""))
            counters.observe(FIRST_BYTE, ("a",), 0.5)
    other.add(REQUESTS, ("b", "m", "permit", ""))
    over_the_channel = [(name, list(labels), value) for name, labels, value in other.samples()]
    found = Exposed(expose([one.samples(), over_the_channel]))
    assert found.value(REQUESTS, **request_labels("a")) == 5
    assert found.value(REQUESTS, **request_labels("b")) == 1
    assert found.value(f"{FIRST_BYTE}_count", provider="a") == 5


def test_merging_leaves_the_sources_alone():
    counters = Counters()
    counters.observe(FIRST_BYTE, ("a",), 0.5)
    before = repr(counters.samples())
    merge([counters.samples(), counters.samples()])
    assert repr(counters.samples()) == before


counts = st.dictionaries(
    st.tuples(st.just(REQUESTS), st.tuples(*[st.sampled_from("ab")] * 4)), st.integers(0, 1000), max_size=5
)


@given(st.lists(counts, max_size=4))
def test_no_count_is_lost_in_merging(sources):
    merged = merge([(name, labels, value) for (name, labels), value in source.items()] for source in sources)
    assert sum(merged.get(REQUESTS, {}).values()) == sum(sum(source.values()) for source in sources)


def test_every_metric_is_exposed_even_before_it_has_a_value():
    text = expose([]).decode()
    for definition in METRICS:
        assert f"# HELP {definition.name} {definition.help}\n" in text
        assert f"# TYPE {definition.name} {definition.kind}" in text


def test_labels_are_escaped():
    counters = Counters()
    counters.add("portcullis_streams_cut_total", ('a"b\nc', "x\\y"))
    found = Exposed(expose([counters.samples()]))
    assert found.value("portcullis_streams_cut_total", model='a"b\nc', reason="x\\y") == 1


def test_an_unknown_histogram_is_a_mistake():
    with pytest.raises(KeyError):
        Counters().observe("portcullis_nothing_seconds", (), 1.0)
