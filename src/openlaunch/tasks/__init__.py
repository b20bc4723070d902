"""The durable task queue."""
