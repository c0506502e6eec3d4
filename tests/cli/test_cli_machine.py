"""Commands that need the machine: its settings, ``state_dir`` and signing key."""

import asyncio
import secrets
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.enforcement.keys import Keys
from gateway.enforcement.memory import remember
from gateway.enforcement.signing import load_signer
from gateway.enforcement.store import Store


class Machine:
    """A state directory, and a prefix of its own in a Redis."""

    def __init__(self, directory: Path, socket: str) -> None:
        self.directory = directory
        self.prefix = f"{{m{secrets.token_hex(6)}}}"
        self.redis = Redis(unix_socket_path=socket, protocol=2)
        self.keys = Keys(self.prefix)
        self._env = {
            "PORTCULLIS_STATE_DIR": str(directory),
            "PORTCULLIS_REDIS__URL": f"unix://{socket}",
            "PORTCULLIS_REDIS__PREFIX": self.prefix,
        }

    async def __call__(self, *words: str, code: int = 0) -> Any:
        done = await asyncio.to_thread(CliRunner().invoke, app, [*words], env=self._env)
        assert done.exit_code == code, (done.exit_code, done.output)
        return done

    def store(self) -> Store:
        return Store(self.redis, self.keys, load_signer(self.directory / "signing.key"))

    async def remember(self) -> None:
        """What a worker does when it has applied what is current."""
        current = await self.store().current()
        stored = await self.redis.xrange(self.keys.log, min=f"{current.rev}-0", count=1)
        sealed = await self.redis.get(self.keys.doc(current.doc))
        remember(self.directory, "0", stored[0][1][b"entry"], sealed)

    async def lose(self) -> None:
        await self.redis.delete(*await self.redis.keys(f"{self.prefix}:*"))


@pytest.fixture
async def machine(tmp_path, redis_server):
    machine = Machine(tmp_path, redis_server)
    yield machine
    await machine.redis.aclose()


async def test_what_is_remembered_is_shown_without_redis(machine):
    await machine("policy", "show", "--remembered", code=2)
    await machine("init")
    await machine("policy", "show", "--remembered", code=1)
    await machine.remember()
    await machine.lose()
    shown = await machine("policy", "show", "--remembered")
    assert "claude-fable-5" in orjson.loads(shown.stdout)["models"]
    assert "remembered: revision 1, epoch" in shown.stderr
    raw = orjson.loads((await machine("policy", "show", "--remembered", "--json")).stdout)
    assert (raw["rev"], raw["action"], "claude-fable-5" in raw["document"]["models"]) == (1, "init", True)


async def test_a_loss_is_restored_and_the_token_of_an_approver_shown(machine):
    await machine("init")
    await machine.remember()
    said = await machine("policy", "restore", code=1)
    assert "not behind" in said.stderr
    await machine.lose()
    said = await machine("policy", "restore", "--operator", "boss")
    assert "restore: revision 2" in said.stdout
    assert "operator boss (approver), token shown once:\npo_" in said.stdout
    assert (await machine.store().current()).rev == 2


async def test_init_restores_too_and_says_the_same(machine):
    await machine("init")
    await machine.remember()
    await machine.lose()
    said = await machine("init")
    assert "restore: revision 2" in said.stdout
    assert "it is revision 1 as remembered" in said.stdout


async def test_restoring_needs_the_signing_key(machine):
    said = await machine("policy", "restore", code=1)
    assert "this is done on the machine that has it" in said.stderr


async def test_a_key_is_rotated_and_retired_and_everything_still_verifies(machine, monkeypatch):
    for module in ("gateway.enforcement.keyring", "gateway.cli.machine"):
        monkeypatch.setattr(f"{module}.TRUSTED_AFTER_SECONDS", 0.0)
    await machine("init", "--seeds", str(Path(__file__).parents[2] / "seeds"))
    old = (await machine("signing", "list")).stdout.split()[0]
    assert "is trusted here, and signs nothing yet" in (await machine("signing", "prepare")).stdout
    await machine("signing", "retire", old, code=1)
    said = await machine("signing", "activate")
    new = said.stdout.split()[0]
    assert f"signing retire {old}" in said.stdout
    listed = (await machine("signing", "list")).stdout.splitlines()
    assert sorted(listed) == sorted([old, f"{new}  signs"])
    assert "records were signed anew" in (await machine("signing", "retire", old)).stdout
    assert (await machine("signing", "list")).stdout.split() == [new, "signs"]
    store = machine.store()
    assert store.signer.trusted == (new,)
    current = await store.current()
    assert (await store.entry(current.rev)).action == "reseal"
    for kind in ("caller", "operator"):
        names = await store.records.page(kind)
        assert names
        for name in names:
            assert await getattr(store.records, kind)(name) is not None
