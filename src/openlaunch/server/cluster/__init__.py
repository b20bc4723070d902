"""Several servers on one database: who lives, who leads, and what they send each other."""
