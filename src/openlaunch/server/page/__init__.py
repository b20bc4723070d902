"""The page: what a browser shows of the server, which reads the HTTP API as every other client does."""
