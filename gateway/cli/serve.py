"""The commands that start something: ``serve`` and ``demo``."""

import asyncio
import contextlib
import ipaddress
import os
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from gateway.cli.machine import SEEDS, begin, explained
from gateway.control.data import data_dir
from gateway.control.seeds import load as load_seeds
from gateway.enforcement.store import AlreadyInitialisedError
from gateway.observability import logs
from gateway.serve import ControlProcess, Running, StartError, state_dir
from gateway.settings import Settings, load

SIMULATOR = "127.0.0.1:8082"


def serve(config: Path | None = None) -> None:
    """Run the gateway until SIGTERM."""
    logs.configure()
    with explained():
        settings = load(config)
        state_dir(settings)
        uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    await ControlProcess(settings).run()


# ---------------------------------------------------------------------- demo


def demo(simulator: str = SIMULATOR) -> None:
    """Run everything on this machine: gateway, a private Redis, a fake provider, seeds. Ctrl-C ends it."""
    logs.configure()
    with explained():
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
            await begin(settings, load_seeds(*(seeds / name for name in (*SEEDS, "demo.toml"))), None)
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
  console    http://{admin}/console      (the token to sign in with: demo-operator)
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
