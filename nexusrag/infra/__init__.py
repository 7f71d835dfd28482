"""What every domain stands on: database, Redis, queue, outbound HTTP, logs and metrics."""
