"""The process of `openlaunch agent`: it owns the workers of its node, and serves them to servers."""
