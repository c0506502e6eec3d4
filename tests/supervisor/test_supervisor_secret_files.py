"""Files with providers' keys are followed: once for each change, and not while they change."""

import asyncio

import pytest

from gateway import tasks
from gateway.settings import Settings, SettingsError
from gateway.supervisor import secret_files


def settings_of(file) -> Settings:
    provider = {"dialect": "openai", "base_url": "https://x", "api_key_file": file}
    aws = {"region": "us-east-1", "access_key_id": "A", "secret_access_key_file": file.with_name("aws")}
    bedrock = {"dialect": "bedrock", "base_url": "https://y", "aws": aws, "proxy_file": file.with_name("proxy")}
    return Settings(providers={"one": provider, "two": bedrock})


def test_which_files_are_followed(tmp_path):
    found = secret_files.secret_files(settings_of(tmp_path / "key"))
    assert [file.name for file in found] == ["key", "proxy", "aws"]


async def test_a_change_is_taken_up_once_when_it_is_over(tmp_path, monkeypatch, until):
    monkeypatch.setattr(secret_files, "LOOK_SECONDS", 0)
    marks, changes = iter([0, 0, 1, 2, 3, 3, 3, 3, 0, 0]), []
    at = []

    def look(_files):
        at.append(next(marks, 0))
        return (at[-1],)

    async def changed() -> None:
        changes.append(at[-1])

    monkeypatch.setattr(secret_files, "look", look)
    settings = settings_of(tmp_path / "key")
    following = tasks.spawn(secret_files.follow(lambda: settings, changed), "following")
    await until(lambda: len(at) > 20)
    await tasks.cancel(following)
    assert changes == [3, 0]


async def test_files_of_other_settings_are_followed_from_there(tmp_path, monkeypatch, until):
    monkeypatch.setattr(secret_files, "LOOK_SECONDS", 0)
    first, second = tmp_path / "first", tmp_path / "second"
    second.write_text("a")
    now, changes = [settings_of(first)], []
    looked = []
    really = secret_files.look

    def look(files):
        looked.append(files[0])
        return really(files)

    async def changed() -> None:
        changes.append(second.read_text())

    monkeypatch.setattr(secret_files, "look", look)
    following = tasks.spawn(secret_files.follow(lambda: now[0], changed), "following")
    await until(lambda: looked)
    now[0] = settings_of(second)
    await until(lambda: looked.count(second) > 1)
    assert changes == []
    second.write_text("another")
    await until(lambda: changes == ["another"])
    await asyncio.sleep(0)
    await tasks.cancel(following)


def test_an_empty_key_is_none(tmp_path):
    (tmp_path / "key").write_text("\n")
    with pytest.raises(SettingsError, match="it is empty"):
        settings_of(tmp_path / "key").providers["one"].key()
