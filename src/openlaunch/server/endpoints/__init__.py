"""What can be done with an endpoint, without HTTP: every rule stands here."""
