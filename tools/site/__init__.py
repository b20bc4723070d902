"""Makes the documentation's site: reference pages written from the code, and a check of the built pages."""
