"""The outermost rim: causes become problems, foreign hosts are turned away, every answer says how to treat it."""

import ipaddress
import traceback

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from redis.exceptions import RedisError

from gateway.control.problems import Misdirected, Problem, Protocol, Unavailable
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import NewerError, NotInitialisedError

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "portcullis"}

_log = structlog.get_logger("portcullis.control")


async def harden(_: web.Request, response: web.StreamResponse) -> None:
    """Headers of every response; nothing is stored, unless the response says how."""
    stored = response.headers.get("Cache-Control", HEADERS["Cache-Control"])
    response.headers.update({**HEADERS, "Cache-Control": stored})


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every cause into its response."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        return Protocol(error).response()
    except (NotInitialisedError, ForgedError, RedisError, OSError, TimeoutError) as error:
        _log.warning("policy_unreachable", method=request.method, path=request.path, error=type(error).__name__)
        return _unavailable(error, request.method).response()
    except Exception:  # noqa: BLE001 - the outermost rim
        trace = traceback.format_exc()  # as text: a renderer that shows local variables would show secrets
        _log.error("request_failed", method=request.method, path=request.path, trace=trace)
        return Problem("The gateway's log has the cause.").response()


def _unavailable(error: Exception, method: str) -> Problem:
    match error:
        case NotInitialisedError():
            return Unavailable("Redis holds no policy. Run portcullis init, or portcullis policy restore after a loss.")
        case NewerError():
            return Unavailable("A newer gateway wrote the policy in force. This one cannot read it: upgrade it.")
        case ForgedError():
            return Unavailable(
                "What Redis holds was not signed by this gateway. See the log and signing.public_key_files."
            )
        case _ if method == "GET":
            return Unavailable("Redis does not answer. Try again; see redis.url.")
        case _:
            return Unavailable(
                "Redis did not answer, so that it is not known whether the change was committed. "
                "Repeat the call with the same Idempotency-Key, or look at GET /api/v1/policy."
            )


def only_own_hosts(listen: str) -> Middleware:
    """A middleware against DNS rebinding: a page in a browser can reach us only under a name with a dot in it.

    Addresses, names without a dot (``localhost``, a service's name) and the host of ``admin.listen`` are ours.
    """
    own = host_of(listen)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = host_of(request.headers.get("Host", ""))
        if not host or (host != own and "." in host and not _is_address(host)):
            raise Misdirected("Use the gateway's address, localhost, or the host that admin.listen names.")
        return await handler(request)

    return check


def host_of(authority: str) -> str:
    """The host of ``host:port``, lower case, without the brackets of IPv6."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
