"""From a credential to a caller: records as they are stored, keys, and a worker's cache of both."""
