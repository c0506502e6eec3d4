"""What providers themselves list: asked with the gateway's own credential, and read with distrust."""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from gateway.dialects import DIALECTS
from gateway.dialects.added import extended
from gateway.dialects.listing import MAX_LIST_BYTES, ListShape
from gateway.dialects.table import Operation
from gateway.policy.names import well_formed
from gateway.settings import Provider, SettingsError
from gateway.tls import client_context

SECONDS = 10.0
"""What one provider may take for all of its pages."""

MOST_PAGES = 50
_CURSORS = (("nextPageToken", "pageToken"), ("nextToken", "nextToken"))
"""The member that says there is more, and the parameter that asks for it. Anthropic: ``has_more``, ``last_id``."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A provider's models by its own word; or why there are none. ``unreadable``: names that no request may give."""

    names: frozenset[str] = frozenset()
    unreadable: int = 0
    trouble: str | None = None


class _NotListedError(Exception):
    """Why a list is not there, in words for an operator."""


async def lists(providers: Mapping[str, Provider]) -> dict[str, Listed]:
    """Ask all of them at once."""
    asked = [_listed(name, provider) for name, provider in providers.items()]
    return dict(zip(providers, await asyncio.gather(*asked), strict=True))


async def _listed(name: str, provider: Provider) -> Listed:
    try:
        async with asyncio.timeout(SECONDS):
            names = [each async for each in _names(name, provider)]
    except _NotListedError as error:
        return Listed(trouble=str(error))
    except (aiohttp.ClientError, OSError, TimeoutError, SettingsError) as error:
        return Listed(trouble=f"it cannot be asked ({type(error).__name__})")  # its text could hold a proxy's password
    good = frozenset(filter(well_formed, names))
    return Listed(good, len(set(names) - good))


async def _names(name: str, provider: Provider) -> Any:
    operation = _operation(provider)
    secure = provider.base_url.startswith("https:")
    context = client_context(provider.tls, f"providers.{name}.tls") if secure else None
    proxy = provider.egress_proxy()
    through: dict[str, Any] = {}
    if proxy is not None:
        through["proxy"] = f"http://{proxy.host}:{proxy.port}"
        if proxy.authorization is not None:
            through["proxy_headers"] = {"Proxy-Authorization": proxy.authorization}
    async with aiohttp.ClientSession(headers=_headers(provider), auto_decompress=False) as session:
        query: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            page = await _page(session, provider.base_url + operation.path, query, context, through)
            for found in _found(operation, page):
                yield found
            query = _next(page)
            if not query:
                return
    raise _NotListedError(f"its list has more than {MOST_PAGES} pages")


def _operation(provider: Provider) -> Operation:
    """The dialect's list of models."""
    if provider.aws is not None:
        raise _NotListedError("requests to it are signed, and its list stands at another host: compare by hand")
    if provider.credentials == "forward":
        raise _NotListedError("callers' own keys go there, and the gateway has none")
    for operation in DIALECTS[provider.dialect].operations:
        if operation.listing is not None and "{" not in operation.path:
            return operation
    raise _NotListedError("its API has no list of models")


def _headers(provider: Provider) -> dict[str, str]:
    header, scheme = extended(DIALECTS[provider.dialect], (), provider.key_header).credential
    key = provider.key()
    own = {} if key is None else {header.decode(): scheme.decode() + key}
    version = {"anthropic-version": "2023-06-01"} if provider.dialect == "anthropic" else {}
    return {"Accept": "application/json", "Accept-Encoding": "identity", **version, **own}


async def _page(
    session: aiohttp.ClientSession,
    url: str,
    query: dict[str, str],
    context: ssl.SSLContext | None,
    through: dict[str, Any],
) -> dict[str, Any]:
    secure = True if context is None else context
    async with session.get(url, params=query, ssl=secure, allow_redirects=False, **through) as response:
        if response.status != 200:
            raise _NotListedError(f"it answered {response.status}")
        body = b""
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > MAX_LIST_BYTES:
                raise _NotListedError(f"its list is longer than {MAX_LIST_BYTES} bytes")
    try:
        page = orjson.loads(body)
    except orjson.JSONDecodeError:
        page = None
    if not isinstance(page, dict):
        raise _NotListedError("its answer is no list of models")
    return page


def _found(operation: Operation, page: dict[str, Any]) -> Iterator[str]:
    shape = operation.listing
    assert isinstance(shape, ListShape)
    items = page.get(shape.items)
    if not isinstance(items, list):
        raise _NotListedError("its answer is no list of models")
    yield from (str(item[shape.name]) for item in items if isinstance(item, dict) and shape.name in item)


def _next(page: dict[str, Any]) -> dict[str, str]:
    if page.get("has_more") is True and isinstance(page.get("last_id"), str):
        return {"after_id": page["last_id"]}
    for member, parameter in _CURSORS:
        if isinstance(page.get(member), str) and page[member]:
            return {parameter: page[member]}
    return {}
