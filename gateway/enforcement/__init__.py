"""How a kill is proven: Redis, leases, receipts.

The claim: once a receipt for revision r says ``enforced: true``, no replica writes a byte to or from a model that
r denies, until a later revision permits it. ``replica`` holds the rules, without I/O; ``agent`` gives it Redis and
time; ``store`` commits revisions; ``receipts`` waits until a revision is enforced and says how it knows.
``docs/enforcement.md`` has the argument.
"""
