"""The data directory, backups, health and certificates."""
