"""`openlaunch serve` on a machine of which it is said that it has one GPU: `one_gpu_server.py OPTION …`."""

import sys

from openlaunch.cli.app import run
from openlaunch.server import drivers

drivers.visible_gpus = lambda: (0,)
drivers.gpu_names = lambda indices: ("",) * len(indices)
sys.exit(run(["serve", *sys.argv[1:]]))
