"""Numbers of what the server does: counted once, and read by all that show them."""
