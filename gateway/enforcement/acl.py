"""The least rights that the two sides need in Redis (ACL of Redis 7), for whoever sets up users for them.

Documents, revisions, callers and operators are signed, so that writing to Redis opens nothing. What is left to protect
is availability, and who can read which ids.
"""

PREFIX = "{pc}"

CONTROL = (
    "~{pc}:*", "+@read", "+@write", "+@scripting", "+@transaction", "+@connection", "-@dangerous",
    "+info", "+role", "+time", "+config|get",
)  # fmt: skip
"""The control process: everything below the prefix, and a look at the server's settings."""

REPLICA = (
    "%R~{pc}:*", "%RW~{pc}:cur", "%RW~{pc}:replicas", "%RW~{pc}:acks", "%RW~{pc}:traffic:*", "%RW~{pc}:effects:*",
    "+@connection", "+role", "+hgetall", "+hget", "+hmget", "+get", "+mget", "+xread", "+xrange",
    "+evalsha", "+script|load", "+hset", "+xadd", "+hincrby", "+expire",
    "(%RW~{pc}:made:* +evalsha +get +getex +set +del)",
)  # fmt: skip
"""A worker: reads everything below the prefix; writes its own renewals, what it counted, and what was
made through it.

``cur`` is read only, but whatever a script names among its keys must be writable to whoever runs it. What may be done
to the ledger's entries is a selector of its own (Redis 7), so that it may not be done to ``cur``.
"""


def rules(rights: tuple[str, ...], prefix: str = PREFIX) -> tuple[str, ...]:
    """The rights for another prefix, as ``ACL SETUSER`` takes them after the user's name and password."""
    return ("on", "resetkeys", "-@all", *(right.replace(PREFIX, prefix) for right in rights))
