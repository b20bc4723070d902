"""The durable records: keys, bundles, endpoints and tasks."""
