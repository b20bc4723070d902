"""The durable queue at work, and the callbacks of its tasks."""
