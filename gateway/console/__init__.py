"""The console: what operators see and use in a browser, on the admin listener under ``/console``.

It has no way of its own to the policy. ``/console/api/v1/…`` is the admin API's own route table, with the same handlers
and roles; only how it is known who calls is another: a session's cookie stands for the fingerprint of the operator's
token (``sessions``). ``live`` looks at everything once a second and tells each open page what is new to it; ``pages``
are shells that plain ES modules fill. Nothing comes from elsewhere: a kill switch must open when the internet does not.
"""

from gateway.console.app import mount

__all__ = ["mount"]
