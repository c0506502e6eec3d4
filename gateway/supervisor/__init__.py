"""The control process' children: n workers on one port. Whoever dies comes back, and none is missed meanwhile.

::

    port.py          one listening socket per *slot*; it outlives the workers that accept from it
    accepted.py      the settings that all workers start with, as they were when they were accepted
    child.py         one worker's process: its channel, what it counted, what state it is in
    secret_files.py  files with providers' keys, followed: a change is a hot restart
    keeper.py        which child fills which slot: starts, back-off, hot restart, hung workers, the end
"""

from gateway.supervisor.accepted import Accepted, accept, taken
from gateway.supervisor.child import State
from gateway.supervisor.keeper import RestartError, Supervisor
from gateway.supervisor.port import PortTakenError

__all__ = ["Accepted", "PortTakenError", "RestartError", "State", "Supervisor", "accept", "taken"]
