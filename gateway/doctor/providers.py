"""Providers: the gateway's keys there, and whether each can be reached, certificate and name verified."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

from gateway.doctor.findings import Finding, fail, ok, warn
from gateway.doctor.machine import readable_by_others
from gateway.settings import Provider, Settings, SettingsError
from gateway.tls import client_context


async def providers(settings: Settings) -> AsyncIterator[Finding]:
    """All looks at all providers."""
    if not settings.providers:
        yield fail("providers", "none", "at least one [providers.NAME] in the settings file")
    for name, provider in settings.providers.items():
        place = f"providers.{name}"
        for finding in secrets(place, provider):
            yield finding
        yield await reached(place, provider, settings.proxy.timeouts.connect)


def secrets(place: str, provider: Provider) -> Iterator[Finding]:
    """Its key is there, and nobody else's to read."""
    try:
        key, egress = provider.key(), provider.egress_proxy()
        if provider.aws is not None:
            provider.aws.keys()
    except SettingsError as error:
        yield fail(place, str(error), "set it: the gateway does not start without")
        return
    if provider.credentials == "replace" and key is None and provider.aws is None:
        yield warn(place, "no key of the gateway's", "api_key_env or api_key_file, unless the provider wants none")
    elif provider.api_key_file is not None:
        yield from readable_by_others(f"{place}.api_key_file", provider.api_key_file)
    else:
        yield ok(place, "the callers' own keys" if provider.credentials == "forward" else "has its key")
    if egress is not None and provider.proxy_file is not None:
        yield from readable_by_others(f"{place}.proxy_file", provider.proxy_file)


async def reached(place: str, provider: Provider, seconds: float) -> Finding:
    """Connect, shake hands, and send nothing. Through a proxy: as far as that."""
    parts = urlsplit(provider.base_url)
    what, secure = f"{place}.base_url", parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    egress = provider.egress_proxy() if not _broken(provider) else None
    if egress is not None:
        host, port, secure = egress.host, egress.port, False
    try:
        context = client_context(provider.tls, f"{place}.tls") if secure else None
        name = (provider.tls.server_name or host) if secure else None
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    except SettingsError as error:
        return fail(what, str(error), "the gateway does not start so")
    except (OSError, TimeoutError) as error:
        why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error
        return fail(what, f"{host}:{port}: {why or 'no answer'}", "look at the firewall, DNS, or providers.NAME.tls")
    writer.close()
    if egress is None and not secure and host not in ("localhost", "127.0.0.1", "::1"):
        return warn(what, f"{host}:{port} reached, in clear", "https://, or what is sent can be read on the way")
    return ok(what, f"{host}:{port} reached" + (", by its proxy" if egress else ", TLS verified" if secure else ""))


def _broken(provider: Provider) -> bool:
    try:
        provider.egress_proxy()
    except SettingsError:
        return True
    return False
