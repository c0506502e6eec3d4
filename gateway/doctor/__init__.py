"""What could go wrong on this machine, looked for before it does: each look says ok, warn or fail, and what to do.

::

    findings.py   what a look finds, and how bad that is
    machine.py    keys, state directory, TLS, descriptors: files and limits of this machine
    redis.py      the server's settings, its clock, and what our users may do there
    providers.py  keys of providers, and the way to each
    examine.py    all of them, in the order in which one depends on another
"""

from gateway.doctor.examine import examine
from gateway.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "examine"]
