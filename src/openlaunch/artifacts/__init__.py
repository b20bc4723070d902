"""Bytes: bundles, large payloads and pickled results."""
