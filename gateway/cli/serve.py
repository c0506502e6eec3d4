"""The commands that start something: ``init``, ``serve``, ``demo``; and ``appoint``, which needs the machine, too."""

import asyncio
import contextlib
import ipaddress
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import uvloop
from pydantic import ValidationError
from redis.exceptions import RedisError

from gateway.control.bootstrap import appoint as appointed
from gateway.control.bootstrap import initial, new_approver, restore
from gateway.control.data import data_dir
from gateway.control.pseudonyms import pseudonym
from gateway.control.seeds import SeedError, Seeds
from gateway.control.seeds import load as load_seeds
from gateway.embedded import EmbeddedRedis, NoServerError
from gateway.enforcement.connection import connect
from gateway.enforcement.entry import Entry
from gateway.enforcement.keys import Keys
from gateway.enforcement.memory import recall
from gateway.enforcement.signing import ForgedError, create_key, load_signer
from gateway.enforcement.store import AlreadyInitialisedError, ConflictError, NotInitialisedError, Store
from gateway.observability import logs
from gateway.serve import ControlProcess, Running, StartError, state_dir
from gateway.settings import Settings, SettingsError, load

SIMULATOR = "127.0.0.1:8082"
SEEDS = ("catalog.toml", "groups.toml", "terms.toml")
"""What a policy starts from, where nobody says otherwise."""

_FAILURES = (SettingsError, StartError, SeedError, NoServerError, AlreadyInitialisedError)


def serve(config: Path | None = None) -> None:
    """Run the gateway until SIGTERM."""
    logs.configure()
    with _explained():
        settings = load(config)
        state_dir(settings)
        uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    await ControlProcess(settings).run()


def init(
    config: Path | None,
    seeds: Path | None,
    operator: str,
    contact: str | None = None,
    information: str | None = None,
    *,
    if_needed: bool = False,
) -> None:
    """Write the first policy, or after a loss the remembered one; make the signing key and the first operator."""
    with _explained():
        settings = load(config)
        state_dir(settings)
        files = sorted(seeds.glob("*.toml")) if seeds is not None else [data_dir("seeds") / name for name in SEEDS]
        if not files:
            raise StartError(f"there is no *.toml in {seeds}")
        given = {"contact": contact, "information": information}
        loaded = load_seeds(*files).model_copy(update={name: text for name, text in given.items() if text is not None})
        try:
            entry, token = uvloop.run(_init(settings, loaded, operator))
        except AlreadyInitialisedError:
            if not if_needed:
                raise
            print("there is a policy already")
            return
        print(f"{entry.action}: revision {entry.rev}, epoch {entry.epoch}, gateway {settings.gateway}")
        if token is not None:
            print(f"operator {operator} (approver), token shown once:\n{token}")


async def _init(settings: Settings, seeds: Seeds, operator: str | None) -> tuple[Entry, str | None]:
    """Write revision 1, or the remembered policy one above it. Without an operator in the seeds, one is made."""
    redis = EmbeddedRedis(settings.state_dir) if settings.redis.url == "embedded" else None
    if redis is not None:
        await redis.start()
    client = connect(settings)
    token = None
    operators = dict(seeds.operators)
    if not operators and operator is not None:
        operators[operator], token = new_approver()
    try:
        if await client.exists(Keys(settings.redis.prefix).cur):
            raise AlreadyInitialisedError
        known = settings.signing_key.exists()
        signer = load_signer(settings.signing_key) if known else create_key(settings.signing_key)
        store = Store(client, Keys(settings.redis.prefix), signer)
        remembered = recall(settings.state_dir, signer)
        parts = (operators, seeds.callers)
        if remembered is None:
            document = seeds.document(settings.gateway)
            entry = await initial(store, document, *parts, pseudonym=lambda c: pseudonym(settings, c))
        else:
            entry = await restore(store, remembered, *parts, pseudonym=lambda c: pseudonym(settings, c))
    finally:
        await client.aclose()
        if redis is not None and redis.started:
            await redis.stop()
    return entry, token


def appoint(config: Path | None, operator: str) -> None:
    """Make somebody an approver who counts as nobody else, and show the token once."""
    with _explained():
        settings = load(config)
        if not settings.signing_key.exists():
            raise StartError(f"there is no {settings.signing_key}: this is done on the machine that has it")
        token = uvloop.run(_appoint(settings, operator))
        print(f"operator {operator} (approver), token shown once:\n{token}")


async def _appoint(settings: Settings, operator: str) -> str:
    redis = EmbeddedRedis(settings.state_dir) if settings.redis.url == "embedded" else None
    if redis is not None:
        await redis.start()
    client = connect(settings)
    try:
        store = Store(client, Keys(settings.redis.prefix), load_signer(settings.signing_key))
        return await appointed(store, operator)
    except (NotInitialisedError, ForgedError, ConflictError) as error:
        raise StartError(f"nobody was appointed: {type(error).__name__} {error}".rstrip()) from None
    except ValidationError:
        raise StartError(f"nobody was appointed: {operator!r} is no id (letters, digits and . _ : -)") from None
    finally:
        await client.aclose()
        if redis is not None and redis.started:
            await redis.stop()


# ---------------------------------------------------------------------- demo


def demo(simulator: str = SIMULATOR) -> None:
    """Run everything on this machine: gateway, a private Redis, a fake provider, seeds. Ctrl-C ends it."""
    logs.configure()
    with _explained():
        own = "PORTCULLIS_STATE_DIR" not in os.environ
        os.environ.setdefault("PORTCULLIS_STATE_DIR", tempfile.mkdtemp(prefix="portcullis-demo-"))
        directory = Path(os.environ["PORTCULLIS_STATE_DIR"])
        os.environ.setdefault("PORTCULLIS_LOG__FILE", str(directory / "requests.log"))
        try:
            uvloop.run(_demo(simulator))
        finally:
            if own:
                shutil.rmtree(directory, ignore_errors=True)


async def _demo(simulator: str) -> None:
    config = data_dir("config") / "demo.toml"
    settings = load(config)
    _only_loopback(settings)
    state_dir(settings)
    fake, address = await _start_simulator(settings, simulator)
    try:
        for name, provider in settings.providers.items():
            variable = f"PORTCULLIS_PROVIDERS__{name.upper()}__BASE_URL"
            os.environ.setdefault(variable, provider.base_url.replace(SIMULATOR, address))
        settings = load(config)
        seeds = data_dir("seeds")
        with contextlib.suppress(AlreadyInitialisedError):
            await _init(settings, load_seeds(*(seeds / name for name in (*SEEDS, "demo.toml"))), None)
        await ControlProcess(settings).run(lambda running: _say_hello(running, address, settings))
    finally:
        if fake.returncode is None:
            fake.terminate()
            await fake.wait()


async def _start_simulator(settings: Settings, listen: str) -> tuple[asyncio.subprocess.Process, str]:
    """Start the fake provider; its address as it says it."""
    spoken = {"anthropic", "gemini", "bedrock"}
    providers = [
        f"{name}={provider.dialect if provider.dialect in spoken else 'openai'}"
        for name, provider in settings.providers.items()
    ]
    models = [f"{provider}={model}" for provider, model in _catalog_names(settings)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway.simulator", "--listen", listen, "--interval", "0.065"),
        *(word for name in providers for word in ("--provider", name)),
        *(word for name in models for word in ("--model", name)),
        *(word for name in settings.providers for word in ("--require-key", f"{name}=simulator-key")),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    if "http://" not in line:
        raise StartError(f"the simulator did not start on {listen}: is the port taken? Try --simulator 127.0.0.1:0")
    return process, line.split("http://")[1].strip()


def _catalog_names(settings: Settings) -> list[tuple[str, str]]:
    """What the simulator lists: each model by its first name at each provider that is configured."""
    seeds = load_seeds(data_dir("seeds") / "catalog.toml")
    return [
        (route.provider, route.names[0])
        for model in seeds.models.values()
        for route in model.routes
        if route.provider in settings.providers
    ]


def _only_loopback(settings: Settings) -> None:
    for name, listen in (("proxy.listen", settings.proxy.listen), ("admin.listen", settings.admin.listen)):
        host = listen.rpartition(":")[0].strip("[]")
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise StartError(f"{name} {listen}: the demo's credentials are public, so it listens on loopback only")


HELLO = """
  Portcullis demo is up. Everything below can be pasted into another terminal, in this directory.

  gateway    http://{proxy}      admin API  http://{admin}      simulator  http://{simulator}
  callers    demo-alice (US)  demo-bob (GB, US permanent resident)  demo-chen (CN)  demo-acme (service) …
  operators  demo-operator  demo-approver

  1. A stream, as a client sees it (half a minute of it, for the simulator is asked to):
     curl -N http://{proxy}/anthropic/v1/messages -H 'x-api-key: demo-alice' -H 'content-type: application/json' \\
       -H 'X-Sim-Events: 500' \\
       -d '{{"model":"claude-fable-5","max_tokens":1024,"stream":true,"messages":[{{"role":"user","content":"Hi"}}]}}'

  2. Meanwhile, take the model offline:
     PORTCULLIS_URL=http://{admin} PORTCULLIS_TOKEN=demo-operator {command} offline claude-fable-5 \\
       --note 'letter received 17:05' --public-message 'Unavailable under a government order.' \\
       --authority 'Department of Commerce' --reference 'BIS-2026-0612' --disclose

  3. What the official SDK shows now:
     {python} -c 'import anthropic; anthropic.Anthropic(base_url="http://{proxy}/anthropic", api_key="demo-alice")\\
       .messages.create(model="claude-fable-5", max_tokens=99, messages=[{{"role": "user", "content": "Hi"}}])'

  4. Back on, which takes two people under an order: one proposes, an approver agrees.
     PORTCULLIS_URL=http://{admin} PORTCULLIS_TOKEN=demo-operator {command} online claude-fable-5
     PORTCULLIS_URL=http://{admin} PORTCULLIS_TOKEN=demo-approver {command} change approve

  Request log: {log}      Ctrl-C ends everything.
"""


def _say_hello(running: Running, simulator: str, settings: Settings) -> None:
    binaries = Path(sys.executable).parent
    print(
        HELLO.format(
            proxy=running.proxy,
            admin=running.admin,
            simulator=simulator,
            command=_short(binaries / "portcullis"),
            python=_short(Path(sys.executable)),
            log=settings.log.file,
        ),
        flush=True,
    )


def _short(path: Path) -> Path:
    """Relative to here where it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what can go wrong at a start into a message and exit code 2 (settings) or 1."""
    try:
        yield
    except AlreadyInitialisedError:
        sys.exit("There is a policy in this Redis already; init never overwrites one.")
    except _FAILURES as error:
        print(f"portcullis: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except (RedisError, OSError) as error:
        sys.exit(f"portcullis: {type(error).__name__}: {error}")
