"""Helpers for users' own tests: a private server in one line."""
