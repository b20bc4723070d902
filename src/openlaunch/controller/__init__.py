"""The reconcile loop: what runs is made to be what is wanted."""
