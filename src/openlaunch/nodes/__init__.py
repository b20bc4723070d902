"""What gateways and node agents agree on: who holds a slot, who leads, who is alive. Nothing here does I/O.

Each state machine is called with what happened, and with `now` where time matters, and returns what to send.
"""
