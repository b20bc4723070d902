"""Every operation of the client, written once, as flows of effects."""
