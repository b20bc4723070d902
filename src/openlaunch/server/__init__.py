"""The HTTP server: gateway, dispatcher, routes, auth and settings."""
