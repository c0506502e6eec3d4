"""`make run`: it comes up by itself, and every line that it prints works when pasted."""

import os
import re
import signal
import subprocess
import sys

import pytest
from system import ROOT


@pytest.fixture
def demo():
    env = {key: value for key, value in os.environ.items() if not key.startswith("PORTCULLIS_")}
    env |= {"PORTCULLIS_PROXY__LISTEN": "127.0.0.1:0", "PORTCULLIS_ADMIN__LISTEN": "127.0.0.1:0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "demo", "--simulator", "127.0.0.1:0"],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    printed = ""
    for line in process.stdout:
        printed += line
        if "Ctrl-C" in line:
            break
    yield printed
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    process.stdout.close()


def lines_to_paste(printed: str) -> list[str]:
    """The commands of steps 1 to 4, continuation lines joined as a shell does."""
    steps = re.split(r"\n  \d\. [^\n]*\n", printed)[1:]
    return [re.split(r"\n\s*\n", step)[0] for step in steps]


def paste(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_what_the_demo_prints_can_be_pasted(demo):
    stream, offline, sdk, online = lines_to_paste(demo)
    streaming = subprocess.Popen(
        ["bash", "-c", f"exec {stream.strip()}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert streaming.stdout.readline().startswith(b"event: message_start")
    killed = paste(offline)
    assert killed.returncode == 0, killed.stderr
    assert re.search(r"enforced on 2 of 2 replicas after [\d.]+ ms", killed.stdout), killed.stdout
    rest, _ = streaming.communicate(timeout=10)
    assert b"event: error" in rest
    assert b"Unavailable under a government order." in rest
    assert b"message_stop" not in rest
    assert streaming.returncode == 18, "curl says that the transfer was cut"
    refused = paste(sdk)
    assert refused.returncode == 1
    assert "451" in refused.stderr
    assert "You may use:" in refused.stderr
    back = paste(online)
    assert back.returncode == 0, back.stdout + back.stderr
    answer = paste(sdk)
    assert answer.returncode == 0, answer.stderr


def test_the_demo_refuses_to_listen_anywhere_else():
    env = dict(os.environ) | {"PORTCULLIS_PROXY__LISTEN": "0.0.0.0:0"}
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "demo"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "loopback only" in done.stderr
