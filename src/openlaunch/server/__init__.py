"""The HTTP server: gateway, dispatch, routes, auth and settings."""
