"""Every event that is logged, as one table: ``docs/events.md`` is made from it, and tests hold the code to it.

Nothing here is a key, a token, a prompt, or what is known of a person: callers are named by their pseudonyms,
operators by their ids.
"""

from dataclasses import dataclass
from typing import Literal

Level = Literal["debug", "info", "warning", "error", "critical"]


@dataclass(frozen=True, slots=True)
class Event:
    """An event. ``fields`` are beside ``event``, ``level``, ``timestamp``; its logger adds those that are ``bound``."""

    name: str
    level: Level
    part: str
    meaning: str
    fields: tuple[str, ...] = ()
    bound: tuple[str, ...] = ()


def _of(part: str, bound: tuple[str, ...], *rows: tuple[str, Level, str, str]) -> tuple[Event, ...]:
    """Rows of one part: name, level, fields, meaning."""
    return tuple(
        Event(name, level, part, meaning, tuple(fields.split()), bound) for name, level, fields, meaning in rows
    )


EVENTS: tuple[Event, ...] = (
    *_of(
        "serve", (),
        ("ready", "info", "proxy admin", "Every worker listens."),
        ("leaving", "info", "deadline_seconds", "A signal came: streams may end until the deadline."),
        ("redis_unreachable", "error", "error", "At the start: Redis cannot be asked what it promises."),
        ("redis_unsafe", "error", "error", "It can forget what it acknowledged: the gateway ends."),
        ("redis_settings", "warning", "what found advice", "A setting of Redis that is not as it should be."),
        ("restarted", "info", "workers", "A hot restart has replaced all workers."),
        ("restart_refused", "error", "error", "It was not, or not all; workers serve on as they were."),
        ("leave_failed", "warning", "replica error", "A dead worker's lease could not be given back: receipts wait."),
        ("task_died", "error", "task error", "A background task ended by an error that nobody foresaw."),
    ),
    *_of(
        "supervisor", (),
        ("worker_died", "error", "worker returncode restart_in", "A worker ended; another is started."),
        ("worker_crash_loop", "error", "worker returncode deaths restart_at_most_every", "The third death in a row."),
        ("worker_not_started", "error", "worker error", "The system gave no process or descriptor."),
        ("worker_silent", "error", "worker ended_after", "It answers its supervisor nothing; siblings accept for it."),
        ("worker_hung", "error", "worker pid seconds", "It was silent for too long, and is ended."),
        ("worker_leaves_by_itself", "warning", "worker restart_in", "Somebody else sent it SIGTERM."),
        ("worker_back", "info", "worker", "It serves again."),
        ("orphans_found", "warning", "pids", "Workers of a control process that was killed; they are relieved."),
        ("control_process_gone", "error", "pid serves_on ends_by", "A worker serves on without its control process."),
        ("listening_without_lease", "warning", "replica", "No lease in time: it refuses, with an explanation."),
    ),
    *_of(
        "replica", ("replica",),
        ("serving", "info", "revision", "It holds a lease, or holds one again."),
        ("lease_expired", "info", "", "Nothing is served any more, and what was in flight is cut."),
        ("redis_unreachable", "error", "error", "No renewal got through; served until the lease ends."),
        ("fenced", "error", "error", "Redis tells another history than the one it knows: nothing is served."),
        ("policy_unusable", "error", "error", "What Redis holds does not verify, or is not there."),
        ("policy_not_understood", "error", "revision denied", "What the parts concern that it cannot read is denied."),
        ("caller_unusable", "error", "error", "A caller's record does not verify; it is not let in."),
        ("remember_failed", "error", "error", "The policy in force could not be written to state_dir."),
        ("local_holds_unreadable", "critical", "error", "Holds of this machine cannot be read: everything is off."),
    ),
    *_of(
        "receipts", (),
        ("revision_lost", "critical", "revision", "Redis answered for a revision that it no longer has."),
        ("receipt_not_stored", "error", "revision error", "A receipt could not be kept for later."),
        ("receipt_taken_over", "warning", "revision", "Who committed it is gone; its proof is finished here."),
        ("not_now", "debug", "error", "Redis did not answer a look at the roll."),
        ("replica_expired", "warning", "replica", "It has not renewed for as long as a lease can last."),
        ("ack_forged", "error", "replica effect", "Somebody wrote to Redis in a replica's name."),
        ("replica_struck_off", "error", "replica effect", "Somebody took a replica off the roll in Redis."),
    ),
    *_of(
        "audit", (),
        ("policy_gone", "critical", "error", "Redis holds no policy."),
        ("policy_forged", "critical", "error", "What Redis holds was not signed by this gateway."),
        ("policy_sound", "info", "", "It verifies again."),
    ),
    *_of(
        "keys", (),
        ("keys_loaded", "info", "trusted signing", "Changed signing keys are in use."),
        ("keys_kept", "error", "error", "Changed ones cannot be used; those before stay."),
    ),
    *_of(
        "tls", (),
        ("certificate_loaded", "info", "place", "A changed certificate is in use."),
        ("certificate_kept", "error", "place error", "A changed one cannot be used; the one before stays."),
        ("key_readable_by_others", "warning", "place file do", "Everybody on the machine can read a private key."),
    ),
    *_of(
        "issuers", ("issuer",),
        ("issuer_keys", "info", "keys", "An issuer's public keys, by their ids."),
        ("issuer_keys_unavailable", "error", "error kept", "They could not be fetched; those that are known stay."),
    ),
    *_of(
        "redis", (),
        ("redis_adopted", "info", "socket", "The embedded server runs already, and is used."),
        ("redis_ended", "error", "returncode", "The embedded server ended by itself."),
        ("redis_restarted", "info", "", "It was started again."),
        ("redis_not_restarted", "error", "error", "It could not be; tried again."),
    ),
    *_of(
        "control", (),
        ("policy_changed", "info", "revision actor action subject order", "A change was committed."),
        ("change_proposed", "info", "change actor action subject", "A change waits for an approver."),
        ("restart_asked", "info", "by", "Somebody asked for a hot restart."),
        ("request_failed", "error", "method path trace", "The admin API failed: 500."),
        ("policy_unreachable", "warning", "method path error", "Redis did not answer the admin API: 503."),
        ("operator_unusable", "error", "operator error", "An operator's record does not verify; it is not let in."),
        ("operators_not_now", "debug", "error", "Redis did not answer; operators remembered stay."),
        ("operators_unreadable", "error", "file error", "Remembered operators cannot be read."),
        ("operators_not_kept", "error", "error", "Operators could not be written to state_dir."),
        ("console_signed_in", "info", "actor", "An operator opened a session of the console."),
        ("console_sign_in_failed", "warning", "", "Somebody tried a token that nobody has."),
        ("sessions_not_kept", "warning", "error", "Sessions could not be written down: a restart ends them."),
        ("sessions_unreadable", "warning", "file error", "Kept sessions cannot be read: everybody signs in anew."),
        ("held_locally", "warning", "hold models actor order", "Off on this machine alone, as Redis is away."),
        ("local_holds_wait", "warning", "holds error", "They wait for Redis, to become everybody's."),
        ("local_hold_committed", "warning", "hold actor revision", "Such a hold is everybody's now."),
        ("local_hold_withdrawn", "warning", "hold actor", "Such a hold was taken back before that."),
        ("local_holds_not_kept", "critical", "error", "Such holds could not be written down: a restart loses them."),
    ),
    *_of(
        "drill", (),
        ("drill_passed", "info", "drill by model failure", "The canary went off and on, end to end."),
        ("drill_failed", "error", "drill by model failure", "It did not; failure says at which step."),
        ("drill_impossible", "error", "error", "It was time for one, and it could not begin."),
        ("drill_not_stored", "error", "drill error", "Its outcome could not be kept as evidence."),
        ("drill_waits", "debug", "error", "Redis did not answer; looked at again."),
    ),
    *_of(
        "evidence", (),
        ("evidence_not_kept", "error", "cause error", "The chain or its mirror could not be written; tried again."),
        ("evidence_kept_again", "info", "", "It is written again, with all that waited."),
        ("evidence_not_told", "error", "kind error", "Redis did not take something for the chain."),
        ("evidence_unverified", "critical", "what error", "What waited for the chain was none of ours."),
        ("evidence_lost", "error", "redis_has mirror_has", "Redis is behind the mirror: the chain goes on from there."),
        ("evidence_removed", "warning", "file keep_days", "A file of the mirror was older than it is kept."),
        ("mirror_forked", "error", "mirror_has redis_goes_on_at", "Redis tells another chain: a new file begins."),
        ("mirror_line_unfinished", "warning", "bytes", "What a crash left of a line was cut off."),
        ("reach_not_told", "error", "revision error", "Who could use what after a revision could not be found out."),
        ("heads_not_delivered", "error", "place error", "Signed heads do not reach a place; tried again."),
        ("heads_delivered_again", "info", "place", "They reach it again."),
    ),
    *_of(
        "scheduler", (),
        ("window_begins", "info", "subject revision", "A directive's window has begun."),
        ("window_ends", "info", "subject revision", "A directive's window is over; it is lifted."),
        ("attestation_ends", "info", "subject revision", "An organisation's attestation is over."),
        ("window_over_under_order", "warning", "directive order", "A window is over; two people must lift it."),
        ("scheduled_late", "warning", "subject action seconds", "It was due before: no scheduler could commit it."),
        ("clocks_differ", "error", "seconds own_ahead_of_redis", "Of control processes and Redis; openings wait."),
        ("clocks_agree", "info", "", "They no longer differ."),
        ("scheduler_waits", "debug", "error", "Redis did not answer; looked at again."),
    ),
    *_of(
        "tracing", (),
        ("spans_not_taken", "warning", "lost", "The collector does not take spans; they are lost."),
        ("spans_taken", "info", "", "It takes them again."),
    ),
    *_of(
        "proxy", (),
        ("upstream_unreachable", "warning", "provider cause error", "No connection to a provider, for a new cause."),
        ("upstream_reachable", "info", "provider", "There is one again."),
        ("name_not_resolved", "warning", "host error used", "A name did not resolve; addresses known before are used."),
        ("internal_error", "error", "exception", "The gateway failed on a request, and closed the door."),
        ("ledger_forged", "error", "provider kind", "Somebody wrote to the ledger in Redis: not believed."),
    ),
)  # fmt: skip

REQUEST: dict[str, str] = {
    "event": "`request`",
    "time": "when it ended, seconds since the epoch",
    "request_id": "as in the response's Portcullis-Request-Id",
    "revision": "the policy's, when it ended",
    "provider": "where it led; null where nowhere",
    "operation": "the operation's id in docs/dialects.md",
    "caller": "the caller's pseudonym",
    "org": "the caller's organisation",
    "decision": "`permit`, `deny`, `rehearsed` (a refusal asked for), or `none` where the client left before one",
    "model": "the model in the catalog, or the name as asked where it has none",
    "reason": "why it was refused or cut",
    "restriction": "the hold or directive that spoke",
    "order": "the order behind it",
    "would_deny": "the directive in shadow that would have refused it",
    "severed": "whether it was cut in flight",
    "stream": "whether it asked for a stream",
    "status": "of the response; 499 where the client left before it",
    "bytes_in": "of the request's body",
    "bytes_out": "of the response's body",
    "duration_ms": "from head to end",
    "first_byte_ms": "from sending upstream to the response's head",
    "end_user": "the end user's pseudonym, where a service asked on behalf of one",
    "client": "the client's address, with log.client_address",
    "traceparent": "as the client sent it (W3C Trace Context)",
}
"""Fields of the line that each request gets, on standard output or in ``log.file``."""
