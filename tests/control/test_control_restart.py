"""Workers are replaced on an operator's word."""

import asyncio

from structlog.testing import capture_logs

from gateway.control.problems import Conflict

PATH = "/api/v1/replicas:restart"


async def test_a_restart_is_waited_for(gate):
    async def replace():
        return 3

    gate.restart = replace
    with capture_logs() as log:
        answer = await gate.post(PATH)
    assert (answer.status, answer.body) == (200, {"state": "restarted", "replaced": 3})
    assert next(line for line in log if line["event"] == "restart_asked")["by"] == "demo-operator"


async def test_one_that_takes_longer_than_the_caller_waits_goes_on(gate, until):
    go, done = asyncio.Event(), []

    async def replace():
        await go.wait()
        done.append(True)
        return 1

    gate.restart = replace
    answer = await gate.post(f"{PATH}?wait=0")
    assert (answer.status, answer.body) == (202, {"state": "restarting"})
    go.set()
    await until(lambda: done)


async def test_a_restart_that_cannot_be_says_why(gate):
    async def replace():
        raise Conflict("Not restarted: proxy.limits.body_byte: no such setting.")

    gate.restart = replace
    answer = await gate.post(PATH)
    assert (answer.status, answer.problem) == (409, "conflict")
    assert "body_byte" in answer["detail"]


async def test_readiness_shows_what_the_workers_do(gate):
    gate.workers = {"serving": 1, "down": 1}
    answer = await gate.get("/readyz", token=None)
    assert (answer.status, answer["workers"]) == (200, {"serving": 1, "down": 1})
    gate.is_ready, gate.workers = False, {"serving": 0, "down": 2}
    answer = await gate.get("/readyz", token=None)
    assert (answer.status, answer["workers"]["down"]) == (503, 2)
