"""What a browser is told to refuse, and which requests come from another site's page."""

from urllib.parse import urlsplit

from aiohttp import web

from gateway.control.problems import Forbidden

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
"""Nothing from elsewhere, nothing inline, nobody's frame; and no text that anybody wrote can become markup."""

HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

OURS = ("same-origin", "none")
"""``Sec-Fetch-Site`` of our own pages, and of what somebody typed."""


def demand_same_origin(request: web.Request) -> None:
    """Refuse what another site's page sends, by what the browser itself says of it (Fetch Metadata; RFC 6454).

    Raises:
        Forbidden: it does.
    """
    site, origin = request.headers.get("Sec-Fetch-Site", "none"), request.headers.get("Origin")
    if site not in OURS or (origin is not None and urlsplit(origin).netloc != request.headers.get("Host")):
        raise Forbidden("This came from another site's page. Use the console itself.")
