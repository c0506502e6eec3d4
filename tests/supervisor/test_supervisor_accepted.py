"""The settings that workers are started with."""

import os
from pathlib import Path

import pytest

from gateway.settings import Settings, SettingsError, load
from gateway.supervisor import accept, taken
from gateway.supervisor.accepted import FIXED, Accepted, file_of


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PORTCULLIS_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "portcullis.toml"
    path.write_text("[proxy.limits]\nbody_bytes = 1000\n")
    monkeypatch.setenv("PORTCULLIS_CONFIG", str(path))
    return path


def test_what_is_accepted_is_what_the_file_says(file):
    old = load()
    file.write_text("[proxy.limits]\nbody_bytes = 2000\n")
    new = accept(old)
    assert (new.settings.proxy.limits.body_bytes, new.text) == (2000, file.read_bytes())


def test_a_worker_reads_the_text_whatever_has_become_of_the_file(file, monkeypatch):
    accepted = taken(load())
    file.write_text("broken =")
    descriptor = file_of(accepted.text)
    monkeypatch.setenv("PORTCULLIS_CONFIG", f"/dev/fd/{descriptor}")
    assert load() == load() == accepted.settings, "again and again"
    os.close(descriptor)


def test_without_a_file_there_is_no_text(monkeypatch, tmp_path):
    monkeypatch.delenv("PORTCULLIS_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert taken(load()).text == b""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[proxy.limits]\nbody_byte = 1", "proxy.limits.body_byte: no such setting"),
        ("[proxy", "portcullis.toml"),
        ('[providers.a]\ndialect = "openai"\nbase_url = "http://a"\napi_key_env = "NOT_THERE"', "NOT_THERE"),
    ],
)
def test_a_mistake_is_named(file, text, said):
    old = load()
    file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        accept(old)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('gateway = "other"', "gateway"),
        ('state_dir = "elsewhere"', "state_dir"),
        ('[proxy]\nlisten = "127.0.0.1:1"', "proxy.listen"),
        ("[proxy]\nworkers = 99", "proxy.workers"),
        ('[admin]\nlisten = "127.0.0.1:1"', "admin"),
        ('[redis]\nprefix = "{other}"', "redis"),
        ('[signing]\nkey_file = "k"', "signing"),
    ],
)
def test_what_the_control_process_stands_on_cannot_change_under_it(file, text, name):
    assert name in FIXED
    old = load()
    file.write_text(text)
    with pytest.raises(SettingsError, match=f"^{name}: need"):
        accept(old)


def test_a_file_that_is_gone_is_a_mistake(file):
    old = load()
    file.unlink()
    with pytest.raises(SettingsError, match=r"portcullis\.toml"):
        accept(old)


async def test_a_worker_does_not_get_the_signing_key(monkeypatch, tmp_path):
    from gateway.supervisor.child import Child

    monkeypatch.setenv("THE_KEY", "secret")
    signing = {"key_env": "THE_KEY", "public_keys_env": "THE_PUBLIC_KEYS"}
    child = Child(0, "0", Accepted(Settings(state_dir=tmp_path, signing=signing), b""), lambda _: None)
    assert "THE_KEY" not in child._environment()
    assert "PATH" in child._environment()
