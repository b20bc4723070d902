"""Who starts worker processes, and where."""
