"""What holds on plain connections holds over TLS: the same tests again, with TLS on both sides of the gate."""

import test_proxy_connection
import test_proxy_severing
import test_proxy_upstream
from tls_fixtures import authority, connect, open_door, pair, provider

FIXTURES = (authority, connect, open_door, pair, provider)
"""They take the place of those in ``conftest``, in this module."""

PLAIN_ONLY = {
    "test_uploads_take_turns_with_one_full_read_each": "its clients are sockets that speak no TLS",
    "test_too_many_connections_are_closed_at_once": "there is no handshake: in test_proxy_tls",
    "test_a_client_that_half_closes_has_left": "asyncio's TLS has no half-close for the test's client to make",
    "test_a_last_answer_survives_what_the_client_sends_behind_it": "a TLS client answers the end with its own, at once",
    "test_a_refused_client_that_stays_is_cut": "TLS tells the end before the cut: in test_proxy_tls",
}

globals().update(
    {
        name: test
        for module in (test_proxy_connection, test_proxy_severing, test_proxy_upstream)
        for name, test in vars(module).items()
        if name.startswith("test_") and name not in PLAIN_ONLY
    }
)
