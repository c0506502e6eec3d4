"""The policy: what it says (``document``), what it means (``snapshot``), what it answers (``decision``).

Pure: no await, no clock, no Redis, no logging, and no import of the rest of the gateway.
"""
