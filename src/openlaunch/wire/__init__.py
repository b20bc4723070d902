"""The HTTP contract, without any I/O: models, paths, SSE framing and problem documents.

Both sides import it; it imports nothing of either side.
"""
