"""Files that come along: seeds and settings, from the source checkout or from the wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def data_dir(name: str) -> Path:
    """Where ``seeds`` or ``config`` is: at the checkout's root, or inside the installed package.

    Raises:
        FileNotFoundError: in neither.
    """
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"{name}/ is neither in the package nor beside it")
