"""`python -m gateway.simulator --listen 127.0.0.1:9090`: run until SIGTERM or SIGINT."""

import argparse
import asyncio
import contextlib
import resource
import signal
import ssl
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from gateway.simulator.behaviour import OPTIONS, Behaviour
from gateway.simulator.config import SimulatorConfig
from gateway.simulator.server import Simulator

DEFAULT_LISTEN = "127.0.0.1:9090"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator; return 0 after a signal, 1 where it cannot listen, 2 (by exit) on bad options."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        host, port = _address(options.listen)
        config = _config(options)
    except ValueError as error:
        parser.error(str(error))
    _raise_file_limit()
    try:
        uvloop.run(_run(Simulator(config, host, port, _tls(options.tls))))
    except OSError as error:
        print(f"simulator cannot listen on {options.listen}: {error}", file=sys.stderr)  # noqa: T201 - its interface
        return 1
    return 0


async def _run(simulator: Simulator) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with simulator:
        print(f"simulator listening on {simulator.url}", flush=True)  # noqa: T201 - callers wait for this line
        await stopped.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.simulator", description="A fake model provider.")
    parser.add_argument("--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="port 0: any free one")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="PEM files: speak TLS")
    parser.add_argument("--provider", action="append", type=_pair, metavar="NAME=DIALECT", help="repeatable")
    parser.add_argument("--model", action="append", type=_pair, metavar="PROVIDER=ID", help="listed; repeatable")
    parser.add_argument("--require-key", action="append", type=_pair, metavar="PROVIDER=KEY", help="repeatable")
    parser.add_argument("--keep-requests", type=int, metavar="N", help="exchanges kept")
    parser.add_argument("--keep-body-bytes", type=int, metavar="N", help="bytes of bodies kept in all")
    parser.add_argument("--keep-emissions", type=int, metavar="N", help="emissions kept per exchange")
    parser.add_argument("--max-body", type=int, metavar="N", help="bytes of a body accepted")
    parser.add_argument("--split-pause", type=float, metavar="SECONDS", help="between an event's halves (X-Sim-Split)")
    for option in OPTIONS:
        flag = "--" + option.name.replace("_", "-")
        parser.add_argument(flag, dest=option.name, help=f"default of {option.header}: {option.meaning}")
    return parser


def _config(options: argparse.Namespace) -> SimulatorConfig:
    """Return the configuration that the options describe; raise ValueError on nonsense."""
    behaviour: dict[str, Any] = {}
    for option in OPTIONS:
        text = getattr(options, option.name)
        if text is not None:
            behaviour[option.name] = option.read(text)
    given: dict[str, Any] = {"defaults": Behaviour(**behaviour)}
    if options.provider:
        given["providers"] = dict(options.provider)
    if options.model:
        models: dict[str, list[str]] = {}
        for provider, model in options.model:
            models.setdefault(provider, []).append(model)
        given["models"] = models
    if options.require_key:
        given["require_key"] = dict(options.require_key)
    bounds = ("keep_requests", "keep_body_bytes", "keep_emissions", "max_body", "split_pause")
    given |= {name: getattr(options, name) for name in bounds if getattr(options, name) is not None}
    return SimulatorConfig(**given)


def _tls(files: Sequence[str] | None) -> ssl.SSLContext | None:
    if files is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    return context


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    return name, value


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not port.isascii() or int(port) > 65535:
        raise ValueError(f"--listen: {text!r} is not of the form host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _raise_file_limit() -> None:
    """Allow as many open files as the system grants: each stream is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
