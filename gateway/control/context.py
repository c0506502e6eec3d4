"""What handlers work with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.enforcement.receipts import Receipts
from gateway.enforcement.store import Store
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """The control process, as far as the admin API sees it.

    ``metrics`` gives the text exposition; ``ready`` says whether this gateway could serve.
    """

    settings: Settings
    store: Store
    receipts: Receipts
    metrics: Callable[[], Awaitable[bytes]]
    ready: Callable[[], bool]
