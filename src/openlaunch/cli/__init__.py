"""The `openlaunch` command: one noun a file."""
