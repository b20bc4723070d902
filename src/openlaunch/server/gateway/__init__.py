"""The HTTP of predictions: the protocol, and the sync, streaming and async routes."""
