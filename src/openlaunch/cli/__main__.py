"""`python -m openlaunch.cli`."""

from openlaunch.cli import main

main()
