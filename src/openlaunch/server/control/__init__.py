"""The HTTP of the control plane: everything but predictions, on FastAPI."""
