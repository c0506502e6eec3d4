"""A plain proxy as one writes it with aiohttp: ``python bench_aiohttp_proxy.py PORT UPSTREAM_PORT``."""

import sys

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te", "trailer"}


async def relay(request: web.Request) -> web.StreamResponse:
    """Pass a request on, and the answer back as it comes."""
    if "x-bench-refuse" in request.headers:
        return web.json_response({"error": {"type": "permission_error", "message": "refused"}}, status=403)
    session: aiohttp.ClientSession = request.app[SESSION]
    url = f"http://127.0.0.1:{request.app[UPSTREAM]}{request.path_qs}"
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
    async with session.request(request.method, url, headers=headers, data=await request.read()) as answer:
        passed = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        if answer.headers.get("Content-Length"):
            return web.Response(status=answer.status, headers=passed, body=await answer.read())
        response = web.StreamResponse(status=answer.status, headers=passed)
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


SESSION = web.AppKey("session", aiohttp.ClientSession)
UPSTREAM = web.AppKey("upstream", int)


async def application(upstream: int) -> web.Application:
    """The app with its client session."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app[UPSTREAM] = upstream
    app[SESSION] = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
    )
    app.on_cleanup.append(lambda app: app[SESSION].close())
    app.router.add_route("*", "/{path:.*}", relay)
    return app


def main() -> None:
    """Serve until told to stop."""
    port, upstream = map(int, sys.argv[1:3])
    web.run_app(
        application(upstream), host="127.0.0.1", port=port, access_log=None, print=None, backlog=8192,
        loop=uvloop.new_event_loop(),
    )  # fmt: skip


if __name__ == "__main__":
    main()
