"""Who is measured. One core, one worker, loopback."""

from bench_gateways import LITELLM, PORTKEY, POSTS, ROWS, missing, start_litellm, start_portkey
from bench_nginx import start_nginx, start_nginx_tls
from bench_others import envoy_missing, start_aiohttp, start_envoy, start_envoy_tls, start_haproxy, start_haproxy_tls
from bench_ours import CALLERS, MANY_DIRECTIVES, Gateway, compiled_missing, two_workers_missing
from bench_site import DIRECT, MARK, OURS, Contender, Running, Site, needs


def start_nothing(site: Site) -> Running:
    """No proxy: what load and upstream can do by themselves. A proxy near it measures them, not itself."""
    return Running(site.upstream, ())


def start_nothing_tls(site: Site) -> Running:
    """The same with TLS, once instead of twice."""
    return Running(site.upstream_tls, (), tls=True)


CONTENDERS = (
    Contender(DIRECT, "no proxy: the ceiling of load and upstream", lambda: None, start_nothing, start_nothing_tls),
    Contender("haproxy", "no log, no checks", needs("haproxy", "haproxy"), start_haproxy, start_haproxy_tls),
    Contender("nginx", "no log, no checks", needs("nginx", "nginx"), start_nginx, start_nginx_tls),
    Contender(MARK, "no log, no checks", envoy_missing, start_envoy, start_envoy_tls),
    Contender(
        OURS, "policy, caller check, counters, a JSON line per request, Redis; compiled",
        compiled_missing, Gateway(OURS), Gateway(f"{OURS}-tls", tls=True),
    ),
    Contender(
        "portcullis-pure", "the same, not compiled", lambda: None, Gateway("portcullis-pure", compiled=False)
    ),
    Contender("aiohttp", "plain proxy on uvloop, no log, no checks", lambda: None, start_aiohttp),
    Contender("litellm", "its proxy, one worker, one key, no database", missing(LITELLM), start_litellm, rows=ROWS),
    Contender("portkey", "its gateway, one process, no log", missing(PORTKEY), start_portkey, rows=POSTS),
    Contender(
        "portcullis-directives", f"as portcullis, {MANY_DIRECTIVES} directives on the model", compiled_missing,
        Gateway("portcullis-directives", directives=MANY_DIRECTIVES), tags=frozenset({"directives"}),
    ),
    Contender(
        "portcullis-callers", f"as portcullis, {CALLERS} callers that it has to look up", compiled_missing,
        Gateway("portcullis-callers", callers=CALLERS), tags=frozenset({"callers"}),
    ),
    Contender(
        "portcullis-two", "as portcullis, two workers", two_workers_missing,
        Gateway("portcullis-two", workers=2), tags=frozenset({"two"}),
    ),
)  # fmt: skip
