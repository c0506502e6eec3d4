"""`python -m gateway.simulator`, as a process."""

import asyncio
import signal
import sys

import aiohttp
import pytest
from certificates import Authority

from gateway.simulator.__main__ import main


@pytest.fixture
async def start():
    processes = []

    async def run(*arguments: str):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.simulator", *arguments, stdout=asyncio.subprocess.PIPE
        )
        processes.append(process)
        async with asyncio.timeout(10):
            line = (await process.stdout.readline()).decode().strip()
        return process, line

    yield run
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_it_tells_its_port_serves_and_stops_at_sigterm(start):
    process, line = await start(
        "--listen", "127.0.0.1:0", "--events", "4", "--provider", "mine=openai", "--model", "mine=m-1",
        "--require-key", "mine=k",
    )  # fmt: skip
    assert line.startswith("simulator listening on http://127.0.0.1:")
    url = line.split()[-1]
    async with aiohttp.ClientSession(url, headers={"Authorization": "Bearer k"}) as session:
        async with session.get("/mine/v1/models") as answer:
            assert [model["id"] for model in (await answer.json())["data"]] == ["m-1"]
        ask = {"model": "m-1", "messages": [{"role": "user", "content": "x"}], "stream": True}
        async with session.post("/mine/v1/chat/completions", json=ask, headers={"X-Sim-Stall": "2"}) as answer:
            await answer.content.readuntil(b"\n\n")
            async with session.get("/_sim/stats") as stats:
                assert (await stats.json())["open_connections"] == 2
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(3):
                assert await process.wait() == 0


async def test_it_speaks_tls(start, tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue()
    _, line = await start("--listen", "127.0.0.1:0", "--tls", str(pair.certificate), str(pair.key))
    assert line.startswith("simulator listening on https://127.0.0.1:")
    async with (
        aiohttp.ClientSession(line.split()[-1]) as session,
        session.get("/_sim/stats", ssl=authority.trusted()) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "nowhere"], "host:port"),
        (["--listen", "127.0.0.1:99999"], "host:port"),
        (["--events", "many"], "whole number"),
        (["--interval", "-1"], "decimal"),
        (["--provider", "openai"], "name=value"),
        (["--provider", "x=klingon"], "klingon"),
        (["--truncate", "1", "--stall", "1"], "exclude each other"),
        (["--keep-requests", "0"], "at least 1"),
    ],
)
def test_bad_options_stop_the_start(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


async def test_a_port_in_use_is_told(start):
    _, line = await start("--listen", "127.0.0.1:0")
    process, _ = await start("--listen", line.removeprefix("simulator listening on http://"))
    assert await process.wait() == 1
