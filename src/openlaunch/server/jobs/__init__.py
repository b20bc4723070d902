"""Batch jobs, docker-image batch jobs, and the triggers that start those."""
