"""Many machines: what servers and the agents of nodes say to each other, and the rules that both keep.

The state machines (`slots`, `leases`, `epochs`) do no I/O: each is called with what happened, and with `now` where
time matters, and returns what to send.
"""
