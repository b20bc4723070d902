"""Engines, which start worker processes and own the machines that they run on."""
