"""The command line against a real control side; its harness is the control tests'."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "control"))

from control_harness import OPERATOR, Gate, empty_gate, gate

from gateway.cli.app import app

__all__ = ["empty_gate", "gate"]


class Shown:
    """What a command printed, and how it ended."""

    def __init__(self, result: Any) -> None:
        self.code = result.exit_code
        self.out = result.stdout
        self.err = result.stderr

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


class CommandLine:
    """Runs commands in a thread, beside the loop that serves them."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    async def __call__(self, *words: str, token: str | None = OPERATOR, **more: str) -> Shown:
        environment = {**self.environment, **({} if token is None else {"PORTCULLIS_TOKEN": token}), **more}
        return Shown(await asyncio.to_thread(CliRunner().invoke, app, [*words], env=environment))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The gate's own log lines are not the command's output."""
    with capture_logs():
        yield


@pytest.fixture
def portcullis(empty_gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    for name in ("PORTCULLIS_TOKEN", "PORTCULLIS_PROFILE", "PORTCULLIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return CommandLine({"PORTCULLIS_URL": str(empty_gate.client.make_url("/")), "XDG_CONFIG_HOME": str(tmp_path)})
