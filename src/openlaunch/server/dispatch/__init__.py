"""Hands requests and tasks to workers: lanes, links, admission."""
