"""Turn a Python function into a production model endpoint."""
