"""The command line: ``portcullis``. It talks to the admin API; ``serve``, ``demo`` and ``init`` start something.

What starts something is imported only when it is asked for, so that the rest starts fast.
"""

from typing import NoReturn


def main() -> NoReturn:
    """Run the command that the arguments name; end with its exit code."""
    from gateway.cli.app import run  # noqa: PLC0415 - ``gateway.cli.serve`` can do without typer

    run()
