"""Settings: a file, overridden by the environment; a mistake is named, and its value is not quoted."""

import os
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from gateway.settings import NOT_SETTINGS, EgressProxy, Provider, Settings, SettingsError, load

ROOT = Path(__file__).resolve().parents[1]
OPENAI = '[providers.openai]\ndialect = "openai"\nbase_url = "https://api.openai.com"\n'


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """An empty directory, and no variable of ours; what ``load`` leaves in the environment is undone."""
    for name in [name for name in os.environ if name.startswith("PORTCULLIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PORTCULLIS_CONFIG", "x")
    monkeypatch.delenv("PORTCULLIS_CONFIG")
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "settings.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_everything_has_a_default():
    settings = load()
    assert settings.proxy.listen == "127.0.0.1:8080"
    assert settings.admin.listen == "127.0.0.1:8081"
    assert settings.redis.url == "embedded"
    assert settings.proxy.worker_count == os.cpu_count()
    assert settings.proxy.timeouts.first_byte >= 600, "models think"
    assert settings.providers == {}


def test_a_file_is_read():
    settings = load(written(f'gateway = "mine"\n[proxy]\nworkers = 3\n[proxy.limits]\npipelined = 2\n{OPENAI}'))
    assert (settings.gateway, settings.proxy.worker_count, settings.proxy.limits.pipelined) == ("mine", 3, 2)
    assert settings.proxy.limits.connections == 10_000, "the rest stays"
    assert settings.providers["openai"].base_url == "https://api.openai.com"


def test_the_file_in_its_usual_place_is_found():
    written('gateway = "usual"', "config/portcullis.toml")
    assert load().gateway == "usual"


def test_workers_read_the_same_file(monkeypatch, tmp_path):
    load(written('gateway = "mine"'))
    assert os.environ["PORTCULLIS_CONFIG"] == str(tmp_path / "settings.toml")
    monkeypatch.chdir("/")
    assert load().gateway == "mine"


def test_the_environment_overrides_the_file_bit_by_bit(monkeypatch):
    path = written(f'gateway = "file"\n[proxy]\nlisten = "127.0.0.1:1"\nworkers = 3\n{OPENAI}')
    for name, value in {
        "PORTCULLIS_PROXY__LISTEN": "0.0.0.0:9",
        "PORTCULLIS_PROXY__LIMITS__BODY_BYTES": "1000",
        "PORTCULLIS_STATE_DIR": "/elsewhere",
        "PORTCULLIS_REDIS__URL": "redis://r:6379/1",
        "PORTCULLIS_PROVIDERS__OPENAI__BASE_URL": "http://other",
        "PORTCULLIS_PROVIDERS__ANTHROPIC__BASE_URL": "http://a",
        "PORTCULLIS_PROVIDERS__ANTHROPIC__DIALECT": "anthropic",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load(path)
    assert (settings.gateway, settings.proxy.listen, settings.proxy.workers) == ("file", "0.0.0.0:9", 3)
    assert (settings.proxy.limits.body_bytes, settings.state_dir) == (1000, Path("/elsewhere"))
    assert settings.redis.url == "redis://r:6379/1"
    assert {name: provider.base_url for name, provider in settings.providers.items()} == {
        "openai": "http://other",
        "anthropic": "http://a",
    }


MISTAKES = [
    # file                                                                      what is said
    ("surprise = 1", "surprise: no such setting"),
    ("[proxy]\nlisten_on = 'x'", "proxy.listen_on: no such setting"),
    ("[proxy.limits]\nbodies = 1", "proxy.limits.bodies: no such setting"),
    ("[proxy]\nlisten = '8080'", "proxy.listen: "),
    ("[proxy]\nlisten = ':8080'", "proxy.listen: "),
    ("[proxy]\nlisten = '127.0.0.1:99999'", "proxy.listen: "),
    ("[proxy]\nworkers = -1", "proxy.workers: "),
    ("[proxy]\nworkers = 'many'", "proxy.workers: "),
    ("[proxy.limits]\nhead_bytes = 0", "proxy.limits.head_bytes: "),
    ("[proxy.timeouts]\nidle = -1", "proxy.timeouts.idle: "),
    ("gateway = 'Has Blanks'", "gateway: "),
    ("[redis]\nprefix = 'pc'", "redis.prefix: "),
    ("[redis]\nprefix = '{}'", "redis.prefix: "),
    ("[providers.openai]\ndialect = 'openai'", "providers.openai.base_url: "),
    ("[providers.openai]\nbase_url = 'http://x'", "providers.openai.dialect: "),
    ("[providers.openai]\ndialect = 'smalltalk'\nbase_url = 'http://x'", "providers.openai.dialect: "),
    ("[providers.openai]\ndialect = 'openai'\nbase_url = 'ftp://x'", "providers.openai.base_url: "),
    ("[providers.openai]\ndialect = 'openai'\nbase_url = 'http://u:p@x'", "providers.openai.base_url: "),
    ("[providers.openai]\ndialect = 'openai'\nbase_url = 'http://x/?a=b'", "providers.openai.base_url: "),
    (
        "[providers.openai]\ndialect = 'openai'\nbase_url = 'http://x'\ncredentials = 'guess'",
        "providers.openai.credentials: ",
    ),
    ("[providers.'Open AI']\ndialect = 'openai'\nbase_url = 'http://x'", "providers.Open AI"),
    (
        OPENAI + "host = 'h'\n" + OPENAI.replace("openai]", "other]") + "host = 'h'\n",
        "providers: two of them have the same host",
    ),
    ("[proxy]\ntrusted_proxies = ['10.0.0.1/8']", "proxy.trusted_proxies.0"),
    ("[proxy]\ntrusted_proxies = ['load-balancer']", "proxy.trusted_proxies.0"),
    ("[proxy.tls]\ncertificate = 'c'", "proxy.tls.key: "),
    ("[proxy.tls]\ncertificate = 'c'\nkey = 'k'\nminimum = '1.1'", "proxy.tls.minimum: "),
    (OPENAI + "[providers.openai.tls]\nverify = false", "providers.openai.tls.verify: no such setting"),
    (OPENAI + "[providers.openai.tls]\nkey = 'k'", "providers.openai.tls: "),
    (OPENAI + "[providers.openai.tls]\nserver_name = 'a b'", "providers.openai.tls.server_name: "),
    (OPENAI + "proxy = 'https://p:3128'", "providers.openai.proxy: "),
    (OPENAI + "proxy = 'http://p'", "providers.openai.proxy: "),
    (OPENAI + "proxy = 'http://u:p@h:99999'", "providers.openai.proxy: "),
    (OPENAI + "proxy = 'http://u:p@h:1/path'", "providers.openai.proxy: "),
    ("[proxy.limits]\nupstream_queue = -1", "proxy.limits.upstream_queue: "),
    ("not toml", "settings.toml"),
    ("a = [", "settings.toml"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_named(text, message):
    with pytest.raises(SettingsError) as caught:
        load(written(text))
    assert message in str(caught.value)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(SettingsError) as caught:
        load(written("surprise = 1\n[proxy]\nworkers = -1\n[admin]\nlisten = 'x'"))
    assert len(str(caught.value).splitlines()) == 3


def test_no_value_is_quoted_for_it_may_be_a_secret():
    with pytest.raises(SettingsError) as caught:
        load(written("[redis]\npassword = ['hunter2']\nprefix = 'hunter2'\n"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["PORTCULLIS_SURPRISE", "PORTCULLIS_PROXIES__LISTEN", "PORTCULLIS_"])
def test_a_variable_that_is_no_setting_is_named(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"{name}: no such setting"):
        load()


def test_a_variable_that_is_no_setting_further_down_is_named(monkeypatch):
    monkeypatch.setenv("PORTCULLIS_PROXY__LISTEN_ON", "1")
    with pytest.raises(SettingsError, match="listen_on: no such setting"):
        load()


@pytest.mark.parametrize("name", sorted(NOT_SETTINGS - {"PORTCULLIS_CONFIG"}))
def test_variables_of_the_command_line_are_let_be(monkeypatch, name):
    monkeypatch.setenv(name, "x")
    load()


def test_a_file_that_is_named_must_be_there(monkeypatch):
    with pytest.raises(SettingsError, match=r"no settings file nowhere\.toml"):
        load(Path("nowhere.toml"))
    monkeypatch.setenv("PORTCULLIS_CONFIG", "gone.toml")
    with pytest.raises(SettingsError, match=r"no settings file gone\.toml"):
        load()


# ---------------------------------------------------------------- secrets


def provider(**fields: object) -> Provider:
    return Provider.model_validate({"dialect": "openai", "base_url": "http://x", **fields})


def test_where_a_providers_key_comes_from(monkeypatch, tmp_path):
    monkeypatch.setenv("THE_KEY", "from the environment")
    (tmp_path / "key").write_text("from a file\n")
    assert provider().key() is None
    assert provider(api_key="plain").key() == "plain"
    assert provider(api_key_env="THE_KEY").key() == "from the environment"
    assert provider(api_key_file=tmp_path / "key").key() == "from a file"


def test_a_key_that_is_not_where_it_should_be_stops_the_start(monkeypatch, tmp_path):
    monkeypatch.delenv("THE_KEY", raising=False)
    with pytest.raises(SettingsError, match="THE_KEY is not set"):
        provider(api_key_env="THE_KEY").key()
    with pytest.raises(SettingsError, match="No such file"):
        provider(api_key_file=tmp_path / "gone").key()


def test_where_the_way_out_comes_from(monkeypatch, tmp_path):
    monkeypatch.setenv("THE_PROXY", "http://env.example:3128")
    (tmp_path / "proxy").write_text("http://u:p@[2001:db8::1]:8080/\n")
    assert provider().egress_proxy() is None
    assert provider(proxy="http://p.example:1").egress_proxy() == EgressProxy("p.example", 1)
    assert provider(proxy_env="THE_PROXY").egress_proxy() == EgressProxy("env.example", 3128)
    found = provider(proxy_file=tmp_path / "proxy").egress_proxy()
    assert found == EgressProxy("2001:db8::1", 8080, "Basic dTpw")
    assert "dTpw" not in repr(found)
    (tmp_path / "proxy").write_text("socks5://u:hunter2@h:1")
    with pytest.raises(SettingsError, match="must be http://host:port") as caught:
        provider(proxy_file=tmp_path / "proxy").egress_proxy()
    assert "hunter2" not in str(caught.value)


def test_a_mistake_in_the_way_out_does_not_show_its_password():
    with pytest.raises(SettingsError) as caught:
        load(written(f"{OPENAI}proxy = 'ftp://u:hunter2@h:1'\n"))
    assert "hunter2" not in str(caught.value)
    settings = load(written(f"{OPENAI}proxy = 'http://u:hunter2@h:1'\n"))
    assert "hunter2" not in repr(settings) + settings.model_dump_json()


def test_secrets_are_not_shown():
    settings = load(written(f"{OPENAI}api_key = 'sk-secret'\n[redis]\npassword = 'hunter2'\n"))
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "sk-secret" not in text
        assert "hunter2" not in text


def test_keys_are_in_the_state_directory_unless_said_otherwise():
    assert (load().signing_key, load().public_keys) == (
        Path(".portcullis/signing.key"),
        (Path(".portcullis/signing.pub"),),
    )
    settings = load(written("[signing]\nkey_file = '/k/a.key'\n"))
    assert (settings.signing_key, settings.public_keys) == (Path("/k/a.key"), (Path("/k/a.pub"),))
    settings = load(written("[signing]\npublic_key_files = ['/k/1.pub', '/k/2.pub']\n"))
    assert settings.public_keys == (Path("/k/1.pub"), Path("/k/2.pub"))


# ---------------------------------------------------------------- the table itself


def sections(kind: type[BaseModel], path: str = "") -> list[tuple[str, type[BaseModel]]]:
    found = [(path, kind)]
    for name, field in kind.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for inner in kinds:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found += sections(inner, f"{path}{name}.")
    return found


@pytest.mark.parametrize(
    ("path", "section"), sections(Settings), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_setting_is_described(path, section):
    for name, field in section.model_fields.items():
        is_section = any(
            isinstance(kind, type) and issubclass(kind, BaseModel)
            for kind in (field.annotation, *getattr(field.annotation, "__args__", ()))
        )
        assert field.description or is_section, f"{path}{name} says nothing"
    assert section.model_config["extra"] == "forbid"
    assert section.model_config["frozen"]


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.toml")), ids=lambda path: path.name)
def test_the_files_that_are_shipped_can_be_used(path):
    settings = load(path)
    assert settings.providers
    assert tomllib.loads(path.read_text())["gateway"] == settings.gateway
