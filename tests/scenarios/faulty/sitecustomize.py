"""Defects that a worker gets when this folder is on its PYTHONPATH, for requests that ask for one by ``X-Fault``.

``internal``: the gateway fails. ``late``: the process sleeps between the look at its lease and the write.
"""

import sys
import time
from typing import Any

SLEEP_SECONDS = 3.5
"""Longer than the lease of the system that is watched."""


def _wants(exchange: Any, fault: bytes) -> bool:
    return (b"x-fault", fault) in exchange.head.forward


def _break() -> None:
    from gateway.proxy.exchange import Exchange

    find_models, may_write = Exchange._find_models, Exchange.may_write

    def failing(exchange: Any) -> None:
        if _wants(exchange, b"internal"):
            raise RuntimeError("a defect, for once")
        find_models(exchange)

    def sleeping(exchange: Any) -> bool:
        may = may_write(exchange)
        if may and _wants(exchange, b"late"):
            time.sleep(SLEEP_SECONDS)
        return may

    Exchange._find_models, Exchange.may_write = failing, sleeping  # type: ignore[method-assign]


if "gateway.proxy.worker" in sys.orig_argv:
    _break()
