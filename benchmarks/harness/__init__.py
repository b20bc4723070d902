"""What every benchmark needs: environments, processes, load, and the report."""
