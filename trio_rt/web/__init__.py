"""HTTP on h11: request heads for the listener, and pages for browsers and health checks."""
