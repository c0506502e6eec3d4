"""The one place where tasks are created: it keeps the reference and logs the death."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from gateway.errors import describe

CANCEL_AGAIN_SECONDS = 0.2

_running: set[asyncio.Task[Any]] = set()
_log = structlog.get_logger("portcullis.tasks")


def spawn(work: Coroutine[Any, Any, Any], name: str, *, awaited: bool = False) -> asyncio.Task[Any]:
    """Run a coroutine in the background. Unless somebody awaits it, its exception is logged, not lost."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_running.discard if awaited else _done)
    return task


def running() -> int:
    """How many tasks are not done."""
    return len(_running)


def _done(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task_died", task=task.get_name(), error=describe(error))


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until they are gone.

    Again, until it works: redis-py 8.1 loses a cancellation that meets it while it connects.
    """
    live = {task for task in tasks if task is not None and not task.done()}
    while live:
        for task in live:
            task.cancel()
        _, live = await asyncio.wait(live, timeout=CANCEL_AGAIN_SECONDS)
