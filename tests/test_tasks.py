"""Tasks: kept while they run, missed when they die, gone when they are cancelled."""

import asyncio
import gc

import pytest
from structlog.testing import capture_logs

from gateway import tasks


async def test_a_task_is_kept_though_nobody_holds_it(until):
    done = []

    async def work() -> None:
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        done.append(1)

    tasks.spawn(work(), "work")
    assert tasks.running() == 1
    await until(lambda: done)
    await until(lambda: not tasks.running())


async def fail() -> None:
    raise ZeroDivisionError("boom")


async def test_a_death_is_logged(until):
    with capture_logs() as logged:
        tasks.spawn(fail(), "work")
        await until(lambda: logged)
    assert logged == [{"event": "task_died", "task": "work", "error": "ZeroDivisionError: boom", "log_level": "error"}]


async def test_a_death_that_somebody_awaits_is_theirs():
    with capture_logs() as logged:
        with pytest.raises(ZeroDivisionError):
            await tasks.spawn(fail(), "work", awaited=True)
        await asyncio.sleep(0)
    assert logged == []


async def test_cancelling_waits_for_the_end():
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(1)

    task = tasks.spawn(work(), "work")
    await asyncio.sleep(0)
    await tasks.cancel(task, None, task)
    assert (ended, task.cancelled()) == ([1], True)
    await tasks.cancel(task)


async def test_a_cancellation_that_was_lost_is_repeated(monkeypatch):
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_SECONDS", 0.01)
    lost = []

    async def deaf() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.append(1)
        await asyncio.Event().wait()

    task = tasks.spawn(deaf(), "deaf")
    await asyncio.sleep(0)
    await tasks.cancel(task)
    assert (lost, task.cancelled()) == ([1], True)


async def test_cancelling_swallows_how_others_end():
    task = tasks.spawn(fail(), "work", awaited=True)
    await asyncio.sleep(0)
    await tasks.cancel(task)
    assert isinstance(task.exception(), ZeroDivisionError)
