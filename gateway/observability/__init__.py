"""What is counted and what is logged: ``metrics`` is one table, ``request_log`` one line per request."""
