"""Who runs when: readiness, time, and output, shared by all connections of a server."""
