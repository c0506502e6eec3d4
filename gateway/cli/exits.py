"""Exit codes: what a script may rely on."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_ENFORCED = 4
    NOT_ALLOWED = 5
    STILL_OFF = 6
    AWAITING_APPROVAL = 7
    THIS_MACHINE_ONLY = 8


MEANINGS: dict[Exit, str] = {
    Exit.DONE: "done, and enforced on every replica where it had to be",
    Exit.REFUSED: "refused by the gateway; the problem is printed",
    Exit.USAGE: "the command line or the profile is wrong",
    Exit.UNREACHABLE: "the gateway cannot be reached",
    Exit.NOT_ENFORCED: "committed, but not (yet) enforced: the wait ran out, or there is no replica",
    Exit.NOT_ALLOWED: "no token, an unknown one, or a role that is too low",
    Exit.STILL_OFF: "a model is still offline: another hold stands on it",
    Exit.AWAITING_APPROVAL: "nothing has changed: it opens what an order closed, and waits for an approver",
    Exit.THIS_MACHINE_ONLY: "Redis cannot be reached: done on this machine's workers only, for the time being",
}


class Failure(Exception):  # noqa: N818 - it need not be an error of ours
    """A command cannot go on. The message is for people."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
