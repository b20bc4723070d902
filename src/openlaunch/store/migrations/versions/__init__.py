"""One file a migration, in order of their numbers. A migration that has been released is never changed."""
