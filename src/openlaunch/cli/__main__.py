"""`python -m openlaunch.cli` is the `openlaunch` command."""

from openlaunch.cli import main

if __name__ == "__main__":
    main()
