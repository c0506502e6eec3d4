"""The one place where tasks are created: it keeps the reference and logs the death."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

_running: set[asyncio.Task[Any]] = set()
_log = structlog.get_logger("portcullis.tasks")


def spawn(work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    """Run a coroutine in the background; an exception that nobody awaits is logged, not lost."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_done)
    return task


def _done(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task_died", task=task.get_name(), error=f"{type(error).__name__}: {error}")


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until they are gone."""
    live = [task for task in tasks if task is not None and not task.done()]
    for task in live:
        task.cancel()
    await asyncio.gather(*live, return_exceptions=True)
