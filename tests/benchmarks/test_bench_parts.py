"""The benchmark's own pieces: what it writes for others, what it reads from them, and how it counts."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import bench_contenders as contenders
import bench_gateways as gateways
import bench_guard as guard
import bench_kill_race as race
import bench_kill_under_load as under_load
import bench_load as load
import bench_memory as memory
import bench_nginx as nginx
import bench_others as others
import bench_ours as ours
import bench_report as report
import bench_watch as watch
import bench_workloads as workloads
import psutil
import pytest
from bench_processes import BenchError, Processes, choose_cores, core_time, cpu_seconds, idle_share, pinned
from bench_proxies import chosen_contenders, chosen_workloads, runs, turns
from bench_site import KEY, PATH, ROOT, Running, certified
from bench_streams import sent_at, spread

from gateway.control.seeds import load as load_seeds
from gateway.dialects import DIALECTS

WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 64 connections
RESULT {"requests":1000,"seconds":2.0,"p50_us":500.0,"p99_us":900.0,"max_us":1000.0,"connect":1,"read":2,"write":0,"status":990,"timeout":0}
"""


def workload(name):
    return next(row for row in workloads.WORKLOADS if row.name == name)


def result(rate, cpu, **fields):
    known = {"units": 10, "seconds": 1.0, "beside_us": None, "p50_ms": 1.0, "p99_ms": 2.0, "errors": 0,
             "proxy_idle": 0.0, "load_idle": 0.5}  # fmt: skip
    return load.Result(per_second=rate, cpu_us=cpu, **known | fields)


# ---------------------------------------------------------------------------------------------------- figures


def test_ratios_are_medians_of_each_rounds_ratio():
    ours, theirs = [result(100, 10), result(10, 10), result(90, 10)], [result(50, 20), result(20, 5), result(90, 20)]
    figure = report.figure("portcullis", ours, theirs)
    assert (figure.per_second, figure.rate_ratio, figure.cpu_ratio) == (90, 1.0, 0.5)


def test_without_the_mark_there_are_no_ratios():
    figure = report.figure("portcullis", [result(100, None)])
    assert (figure.rate_ratio, figure.cpu_ratio, figure.cpu_us) == (None, None, None)


@pytest.mark.parametrize(("proxy_idle", "load_idle", "bound"), [(0.2, 0.0, True), (0.0, 0.0, False), (0.2, 0.3, False)])
def test_a_proxy_with_time_to_spare_beside_a_load_without_is_bound_by_the_load(proxy_idle, load_idle, bound):
    figure = report.figure("haproxy", [result(1, 1, proxy_idle=proxy_idle, load_idle=load_idle)])
    assert ("the load side is the limit" in report.remark(figure)) is bound


def test_the_table_has_a_line_per_contender_and_dashes_for_what_is_not_known():
    rows = report.figures({"direct": [result(9, None)], "envoy": [result(4, 2)], "portcullis": [result(8, 1)]})
    lines = report.table(workload("post-64"), rows).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["direct", "envoy", "portcullis"]
    assert lines[2].split()[3] == "–"
    assert lines[4].split()[1:5] == ["8", "2.00", "1.0", "0.50"]


def test_errors_are_shouted():
    assert "3 ERRORS" in report.remark(report.figure("envoy", [result(1, 1, errors=3)]))


def test_the_plot_is_svg_with_a_bar_per_contender_that_has_a_process():
    rows = report.figures({"direct": [result(9, None)], "envoy": [result(4, 2)], "a<b": [result(8, 1)]})
    drawn = ET.fromstring(report.plot([(workload("post-64"), rows)], "here & now"))
    bars = [e for e in drawn.iter("{http://www.w3.org/2000/svg}rect") if e.get("fill") != "white"]
    assert [float(bar.get("width")) for bar in bars] == [210.0, 420.0]
    assert any(e.text == "a<b" for e in drawn.iter())


def test_what_a_proxy_adds_is_what_is_left_after_the_same_rounds_ceiling():
    without, theirs = (
        [result(9, 0, p50_ms=1.0), result(9, 0, p50_ms=3.0)],
        [result(9, 0, p50_ms=2.0), result(9, 0, p50_ms=5.0)],
    )
    figure = report.figure("portcullis", [result(9, 0, p50_ms=1.5), result(9, 0, p50_ms=4.0)], theirs, without)
    assert (figure.added_p50_ms, figure.added_ratio) == (0.75, 0.5)
    assert figure.added_p99_ms == 0.0


def test_added_time_is_shown_where_time_is_what_is_asked_for_and_not_for_the_ceiling():
    rows = report.figures({"direct": [result(9, None)], "portcullis": [result(8, 1, p50_ms=1.25)]})
    assert rows[0].added_p50_ms is None
    head, *lines = report.table(workload("post-1"), rows).splitlines()[1:]
    assert "added p50" in head
    assert lines[1].split()[8] == "0.250"
    assert "added p50" not in report.table(workload("post-64"), rows)


def test_rows_are_compared_where_both_were_measured():
    measured = {"post-64": [report.figure("portcullis", [result(10, 100)])],
                "refuse-64": [report.figure("portcullis", [result(20, 90)]), report.figure("nginx", [result(1, 1)])]}  # fmt: skip
    lines = report.comparisons(measured).splitlines()
    assert len(lines) == 3
    assert lines[2].split()[-8:] == ["90.0", "/", "100.0", "0.90", "20", "/", "10", "2.00"]
    assert report.comparisons({}) == ""


def test_every_comparison_is_of_rows_and_contenders_that_there_are():
    known = {(row.name, c.name) for row in workloads.WORKLOADS for c in contenders.CONTENDERS if runs(row, c)}
    assert {pair for c in report.COMPARISONS for pair in (c.this, c.beside)} <= known


# ---------------------------------------------------------------------------------------------------- load


@pytest.mark.parametrize(
    ("read", "sent"),
    [(b'x"@0000000000000012"y', 12), (b'"@0000000000000012"}\n\n"@0000000000000013"', 13), (b'"@00000000', None),
     (b"data: [DONE]", None), (b"", None)],
)  # fmt: skip
def test_the_last_event_of_a_read_says_when_it_was_sent(read, sent):
    assert sent_at(read) == sent


def test_the_upstreams_events_carry_the_stamp_that_the_client_looks_for():
    assert sent_at(nginx.EVENT.encode()) == 0


def test_percentiles_are_milliseconds_and_none_of_nothing():
    assert spread([1000] * 50) == (1.0, 1.0)
    assert spread([]) == (None, None)


def test_only_who_has_unknown_callers_is_asked_by_them():
    known, other = Running(1, ()), Running(1, (), callers=7)
    assert "-" + '" .. ' not in load.wrk_script(workload("tenth-64"), Path("/b"), known)
    assert "asked % 10 > 0" in load.wrk_script(workload("tenth-64"), Path("/b"), other)
    assert "% 7)" in load.wrk_script(workload("tenth-64"), Path("/b"), other)
    assert "asked %" not in load.wrk_script(workload("post-64"), Path("/b"), other)


def test_wrks_line_is_read_from_the_rest():
    wrk = load.read_wrk(WRK)
    assert (wrk.requests, wrk.seconds, wrk.p99_us) == (1000, 2.0, 900.0)


def test_wrk_without_a_line_is_an_error_that_quotes_it():
    with pytest.raises(BenchError, match="unable to connect"):
        load.read_wrk("unable to connect to 127.0.0.1:1 Connection refused")


@pytest.mark.parametrize(("refused", "errors"), [(False, 993), (True, 13)])
def test_a_refusal_is_an_error_unless_it_is_asked_for(refused, errors):
    assert load.errors_of(load.read_wrk(WRK), refused=refused) == errors


def test_wrks_script_names_the_body_the_key_and_the_refusal():
    script = load.wrk_script(workload("refuse-64"), Path("/tmp/body"), Running(1, (), headers=(("x-more", "2"),)))
    assert '"/tmp/body"' in script
    assert f"Bearer {KEY}" in script
    assert 'wrk.headers["x-more"] = "2"' in script
    assert 'wrk.headers["x-bench-refuse"]' in script
    assert "{" not in script.replace("{body}", "").split("function done")[0]


@pytest.mark.parametrize("row", workloads.WORKLOADS, ids=lambda row: row.name)
def test_bodies_have_their_size_and_are_read_by_the_gateway(row):
    body = workloads.body(row)
    assert len(body) == row.body_bytes
    operation, _ = DIALECTS["openai"].operation("POST", PATH.removeprefix("/openai"))
    reading = operation.reader.read(body)
    assert (reading.names, reading.stream) == ((row.model,), row.kind == "stream")


def test_the_answer_is_half_a_kibibyte():
    assert 480 <= len(nginx.ANSWER) <= 544


# ---------------------------------------------------------------------------------------------------- contenders


def test_our_seeds_are_what_init_takes(tmp_path):
    file = tmp_path / "bench.toml"
    file.write_text(ours.seeds(directives=3, callers=2))
    seeds = load_seeds(file, *(ROOT / "seeds" / f"{name}.toml" for name in ("catalog", "groups", "terms")))
    document = seeds.document("bench")
    assert sorted(seeds.callers) == ["bench", "c-0", "c-1"]
    assert [d.state for d in document.directives.values()] == ["in_force"] * 3


def test_configurations_name_their_ports():
    assert "bind 127.0.0.1:11 " in others.haproxy_config(11, 22)
    assert "server s 127.0.0.1:22 " in others.haproxy_config(11, 22)
    envoy = json.dumps(others.envoy_config(11, 22))
    assert envoy.index('"port_value": 11') < envoy.index('"port_value": 22')
    env = ours.gateway_env(Path("/d"), 11, 12, "http://127.0.0.1:22", 1)
    assert env["PORTCULLIS_PROXY__LISTEN"] == "127.0.0.1:11"
    assert env["PORTCULLIS_PROVIDERS__OPENAI__BASE_URL"] == "http://127.0.0.1:22/openai"


def test_nothing_listens_beyond_loopback(tmp_path):
    _, pair = certified(tmp_path)
    written = others.haproxy_config(1, 2) + nginx.upstream_body(3, 4, pair) + nginx.proxy_body(5, 6)
    listening = [line.strip() for line in written.splitlines() if line.strip().startswith(("bind", "listen"))]
    assert listening
    assert all(line.split()[1].startswith("127.0.0.1:") for line in listening)


def test_tls_is_1_3_and_verified_on_both_sides(tmp_path):
    authority, pair = certified(tmp_path)
    haproxy = others.haproxy_config(1, 2, tls=(others.in_one_file(pair), authority))
    assert haproxy.count("ssl-min-ver TLSv1.3") == 2
    assert "verify required" in haproxy
    proxy = nginx.proxy_body(1, 2, tls=(pair, authority))
    assert (proxy.count("TLSv1.3"), proxy.count("proxy_ssl_verify on"), proxy.count("https://u")) == (2, 1, 1)
    envoy = json.dumps(others.envoy_config(1, 2, tls=(pair, authority)))
    assert (envoy.count("TLSv1_3"), envoy.count("trusted_ca")) == (4, 1)
    assert Running(7, (), tls=True).url == f"https://127.0.0.1:7{PATH}"


def test_callers_are_imported_as_they_were_seeded():
    lines = [json.loads(line) for line in ours.caller_lines(2, "one").splitlines()]
    assert [line["id"] for line in lines] == ["c-0", "c-1"]
    assert lines[0]["attributes"] == {"nationality": ["US"]}


def test_slow_gateways_run_in_few_rows_and_say_how_they_are_installed(monkeypatch):
    slow = [c for c in contenders.CONTENDERS if c.rows]
    assert [c.name for c in slow] == ["litellm", "portkey"]
    assert [row.name for row in workloads.WORKLOADS if runs(row, slow[0])] == list(gateways.ROWS)
    assert "make bench-python-gateways" in gateways.missing(ROOT / "nowhere")()


# ---------------------------------------------------------------------------------------------------- what runs


def test_each_round_begins_with_another_contender():
    assert [turns(["a", "b", "c"], number) for number in (0, 1, 3)] == [list("abc"), list("bca"), list("abc")]


def test_only_names_workloads_and_contenders():
    assert [row.name for row in chosen_workloads(["sse-400"], quick=True)] == ["sse-400"]
    assert [row.name for row in chosen_workloads(["sse"], quick=True)] == ["sse-400", "sse-4000"]
    assert {c.name for c in chosen_contenders(["haproxy"])} == {"direct", "envoy", "haproxy"}
    assert chosen_contenders(["post-64"]) == list(contenders.CONTENDERS)


def test_variants_of_ours_run_only_where_they_are_asked_for():
    variants = [c for c in contenders.CONTENDERS if c.tags]
    assert variants
    assert not any(runs(workload("post-64"), variant) for variant in variants)
    assert all(any(runs(row, variant) for row in workloads.WORKLOADS) for variant in variants)


# ---------------------------------------------------------------------------------------------------- processes


@pytest.mark.parametrize(("allowed", "cores"), [({0, 1}, (1, 0, 0)), ({2, 5, 7}, (7, 2, 5)), (range(8), (7, 0, 1))])
def test_the_proxy_has_a_core_of_its_own(allowed, cores):
    chosen = choose_cores(allowed)
    assert (chosen.proxy, chosen.load, chosen.upstream) == cores


def test_one_core_is_too_few():
    with pytest.raises(BenchError, match="two cores"):
        choose_cores({0})


def test_a_cores_time_is_split_into_busy_and_idle():
    before = core_time(1, "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 100 0 50 800 0 0 0 50 0 0\n")
    after = core_time(1, "cpu1 200 0 100 850 0 0 0 50 0 0\n")
    assert idle_share(before, after) == pytest.approx(50 / 200)


def test_a_process_that_works_uses_time_and_one_that_is_gone_is_an_error():
    assert cpu_seconds([psutil.Process().pid]) > 0
    assert cpu_seconds([]) == 0
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    with pytest.raises(BenchError, match="has ended"):
        cpu_seconds([gone.pid])


def test_everything_started_is_ended_with_its_children(tmp_path):
    command = [sys.executable, "-c",
               "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); print('up', flush=True); time.sleep(600)"]  # fmt: skip
    core = min(psutil.Process().cpu_affinity())
    with Processes(tmp_path) as processes:
        process = processes.start("child", core, command)
        while "up" not in processes.log("child"):
            assert process.poll() is None
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert len(family) == 2
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family)


def test_a_process_that_does_not_start_is_an_error_with_what_it_said(tmp_path):
    with Processes(tmp_path) as processes:
        process = processes.start("broken", min(psutil.Process().cpu_affinity()), ["false"])
        with pytest.raises(BenchError, match="broken ended with 1"):
            processes.listening("broken", process, 1)


def test_pinned_commands_run():
    core = min(psutil.Process().cpu_affinity())
    code = "import os; print(os.sched_getaffinity(0))"
    done = subprocess.run(pinned(core, [sys.executable, "-c", code]), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str({core})


# ---------------------------------------------------------------------------------------------------- the guard


@pytest.mark.parametrize(
    ("measure", "now", "holds"),
    [("rate", 0.91, True), ("rate", 0.89, False), ("rate", 5.0, True), ("cpu", 1.09, True), ("cpu", 1.11, False),
     ("cpu", 0.5, True), ("added p50", 1.2, False), ("added p50", None, False)],
)  # fmt: skip
def test_a_ratio_may_be_worse_by_its_margin_only(measure, now, holds):
    assert guard.Ratio("post-64", measure, "envoy", ratio=1.0, margin=0.1).holds(now) is holds


def test_ratios_are_told_of_what_a_row_is_about():
    rounds = {"direct": [result(9, None, p50_ms=1.0)], "envoy": [result(4, 20, p50_ms=3.0)],
              "portcullis": [result(8, 10, p50_ms=2.0)]}  # fmt: skip
    assert guard.ratios(workload("post-1"), rounds) == {
        ("post-1", "cpu", "envoy"): 0.5, ("post-1", "rate", "envoy"): 2.0, ("post-1", "added p50", "envoy"): 0.5,
    }  # fmt: skip
    assert [key[1] for key in guard.ratios(workload("post-64"), rounds)] == ["cpu", "rate"]
    assert [key[1] for key in guard.ratios(workload("sse-400"), rounds)] == ["cpu", "added p50"]
    assert guard.ratios(workload("post-1"), {"envoy": rounds["envoy"]}) == {}


def test_the_guards_table_says_what_does_not_hold():
    recorded = [guard.Ratio("post-64", measure, "envoy", 1.0, 0.1) for measure in ("rate", "cpu")]
    lines = guard.table([*recorded, guard.Ratio("post-1", "cpu", "envoy", 1.0, 0.1)],
                        {("post-64", "rate", "envoy"): 1.05, ("post-64", "cpu", "envoy"): 1.2}).splitlines()  # fmt: skip
    assert [line.split()[-1] for line in lines[1:]] == ["ok", "WORSE", "MEASURED"]
    assert "+20%" in lines[2]


def test_what_is_recorded_is_read_again_and_margins_stay(tmp_path):
    now = {("post-64", "cpu", "envoy"): 0.91234567, ("post-64", "rate", "envoy"): 1.1}
    before = [guard.Ratio("post-64", "cpu", "envoy", 2.0, 0.33)]
    guard.write(guard.merged(before, now), tmp_path / "recorded.json")
    found, head = guard.read(tmp_path / "recorded.json")
    assert found == [
        guard.Ratio("post-64", "cpu", "envoy", 0.9123, 0.33),
        guard.Ratio("post-64", "rate", "envoy", 1.1, 0.12),
    ]
    assert head["interpreter"] == guard.interpreter()
    with pytest.raises(BenchError, match="--record"):
        guard.read(tmp_path / "nothing.json")


def test_the_guard_runs_rows_and_contenders_that_there_are():
    assert set(guard.ROWS) <= {row.name for row in workloads.WORKLOADS}
    assert set(guard.BESIDE) <= {contender.name for contender in contenders.CONTENDERS}


# ---------------------------------------------------------------------------------------------------- kills


def outcome(name, last_byte, **fields):
    known = {"how": "told", "at_least": last_byte or 20.0, "said": 0.01} | fields
    return race.Outcome(name, last_byte=last_byte, **known)


def test_the_race_says_what_was_seen_and_what_was_not():
    ours, theirs = outcome("Portcullis", 0.0421, proven=True), outcome("nginx", None, went_on=200)
    lines = race.table([ours, theirs, *race.DOCUMENTED]).splitlines()
    assert "42 ms" in lines[1]
    assert "> 20 s: 200 streams went on" in lines[2]
    assert "documented, not measured" in lines[3]
    assert "proxy_config_reload_interval_seconds" in lines[-1]


def test_the_races_chart_is_svg_whose_open_bars_are_streams_that_go_on():
    outcomes = [outcome("Portcullis", 0.1), outcome("a<b", None, went_on=200), *race.DOCUMENTED]
    drawn = ET.fromstring(race.chart(outcomes, "here & now"))
    space = "{http://www.w3.org/2000/svg}"
    bars = [e for e in drawn.iter(f"{space}rect") if e.get("fill") != "white"]
    assert [bar.get("stroke-dasharray") is None for bar in bars] == [True, True, False]
    assert len([e for e in drawn.iter(f"{space}path") if e.get("class") == "goes-on"]) == 2
    assert [float(bar.get("width")) for bar in bars] == sorted(float(bar.get("width")) for bar in bars)
    assert any(e.text == "a<b" for e in drawn.iter())


def test_the_races_axis_is_logarithmic_and_ends():
    widths = [race.place(seconds) for seconds in (0.1, 1.0, 10.0, 1e9)]
    assert widths == pytest.approx([race._WIDE / 4, race._WIDE / 2, race._WIDE * 3 / 4, race._WIDE])
    assert 0 < race.place(0.0) < widths[0]


def test_a_stream_that_is_asked_for_says_its_pause_and_a_question_does_not():
    stream = watch.request("m", (("x-more", "1"),), pause=0.5)
    assert b"x-bench-pause: 0.5\r\n" in stream
    assert b"x-more: 1\r\n" in stream
    head, _, body = watch.request("m").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"x-bench" not in head


def test_lost_requests_are_told_apart_from_failed_ones():
    wrk = load.read_wrk(WRK)
    said = under_load.report(wrk, wrk, under_load.Kills([1.0, 3.0], [2.0], 200))
    assert "1,000 requests during 2 kills of 200 streams: 3 lost, 990 failed" in said
    assert "p50 2.0 ms, max 3.0 ms" in said
    assert under_load.spread([]) == "none"


# ---------------------------------------------------------------------------------------------------- memory


def test_weight_is_what_each_client_adds():
    base = memory.Memory(rss=2**20, uss=2**20)
    grown = [memory.Memory(2**20 + 1024 * 1000, 2**20 + 512 * 1000), memory.Memory(2**20 + 8192 * 4000, 2**20)]
    found = memory.weight("nginx", memory.IDLE, base, grown, (1000, 4000))
    assert (found.rss, found.uss, found.base_mib) == ((1.0, 8.0), (0.5, 0.0), 1.0)
    lines = memory.table([found], (1000, 4000)).splitlines()
    assert lines[1].split()[:6] == ["nginx", "1.0", "0.5", "0.0", "1.0", "8.0"]


def test_memory_is_read_of_processes_that_run():
    assert memory.Memory.of([psutil.Process().pid]).rss > 0
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    with pytest.raises(BenchError, match="has ended"):
        memory.Memory.of([gone.pid])
