"""The control-plane routes: one noun a file, each a function that makes a router."""
