"""All commands."""

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway import __version__
from gateway.cli import asking, audit, catalog, changes, models, nouns, people, proof, restrict
from gateway.cli.exits import MEANINGS
from gateway.cli.session import Config

SUMMARY = """A gate in front of model APIs, with an off switch that proves itself.

\b
PORTCULLIS_URL      the admin API; http://127.0.0.1:8081 by default
PORTCULLIS_TOKEN    your token
PORTCULLIS_PROFILE  or --profile NAME: url and token_file (or token_env) of
                    [profiles.NAME] in ~/.config/portcullis/config.toml instead
"""


def epilog() -> str:
    """The exit codes, as ``--help`` shows them."""
    return "\b\nExit codes:\n" + "\n".join(f"  {code:d}  {meaning}" for code, meaning in MEANINGS.items())


app = typer.Typer(
    help=SUMMARY,
    epilog=epilog(),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models.add_to(app)
catalog.add_to(app)
restrict.add_to(app)
changes.add_to(app)
nouns.add_to(app)
asking.add_to(app)
people.add_to(app)
proof.add_to(app)
audit.add_to(app)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Answer what needs no command."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def serve(config: Config = None) -> None:
    """Run the gateway."""
    from gateway.cli import serve as starting  # noqa: PLC0415 - it imports the whole gateway

    starting.serve(config)


@app.command()
def demo(
    simulator: Annotated[str, typer.Option(help="Where the simulated provider listens.")] = "127.0.0.1:8082",
) -> None:
    """Run everything on this machine, with a simulated provider and known keys. Nothing to install or edit."""
    from gateway.cli import serve as starting  # noqa: PLC0415 - it imports the whole gateway

    starting.demo(simulator)


@app.command()
def init(
    config: Config = None,
    seeds: Annotated[Path | None, typer.Option(help="A directory of *.toml; by default the catalog's.")] = None,
    operator: Annotated[str, typer.Option(help="The first operator, an approver.")] = "admin",
    contact: Annotated[str | None, typer.Option(help="Whom the refused may ask.")] = None,
    information: Annotated[str | None, typer.Option(help="URL of your page about blocks (Link: blocked-by).")] = None,
    if_needed: Annotated[bool, typer.Option("--if-needed", help="Exit 0 where there is a policy already.")] = False,
) -> None:
    """Write the first policy, and show the first operator's token once. After a loss of Redis: restore the last."""
    from gateway.cli import machine  # noqa: PLC0415 - it imports the whole gateway

    machine.init(config, seeds, operator, contact, information, if_needed=if_needed)


@app.command()
def appoint(
    operator: Annotated[str, typer.Argument(metavar="ID", help="New, or one whose token is lost.")],
    config: Config = None,
) -> None:
    """Make an approver who counts as nobody else, with the machine's signing key: where one was lost."""
    from gateway.cli import machine  # noqa: PLC0415 - it imports the whole gateway

    machine.appoint(config, operator)


@app.command()
def doctor(
    config: Config = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings, too.")] = False,
    drill: Annotated[bool, typer.Option("--drill", help="Take the canary off and on, too; needs a token.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for what could go wrong: Redis, rights, TLS, keys, providers, clock, limits. Changes nothing."""
    from gateway.cli import doctor as looking  # noqa: PLC0415 - it imports the whole gateway
    from gateway.cli.target import find  # noqa: PLC0415 - as above

    looking.doctor(config, find(None), strict=strict, drill=drill, as_json=as_json)


signing = typer.Typer(help="The keys that sign the policy.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(signing, name="signing")


@signing.command("list")
def signing_list(config: Config = None) -> None:
    """The keys that are trusted, and which of them signs."""
    from gateway.cli import machine  # noqa: PLC0415 - it imports the whole gateway

    machine.signing_list(config)


@signing.command("prepare")
def signing_prepare(config: Config = None) -> None:
    """Make the next key, and trust it; nothing is signed with it yet. What serves follows within seconds."""
    from gateway.cli import machine  # noqa: PLC0415 - it imports the whole gateway

    machine.signing_prepare(config)


@signing.command("activate")
def signing_activate(config: Config = None) -> None:
    """Sign with the next key from here on. The old private key is gone then; its public half is trusted on."""
    from gateway.cli import machine  # noqa: PLC0415 - it imports the whole gateway

    machine.signing_activate(config)


@signing.command("retire")
def signing_retire(kid: Annotated[str, typer.Argument(metavar="KEY")], config: Config = None) -> None:
    """Sign anew what an old key has signed, and trust it no longer."""
    from gateway.cli import machine  # noqa: PLC0415 - it imports the whole gateway

    machine.signing_retire(config, kid)


def run() -> NoReturn:
    """Run the command that the arguments name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    app(prog_name="portcullis")
    sys.exit(0)
