"""`python -m openlaunch_worker`: what an engine starts."""

import sys

from openlaunch_worker.main import main

if __name__ == "__main__":
    sys.exit(main())
