"""PostgreSQL, Redis and secrets for one machine, started from their wheels. Uses settings alone."""
