"""The worker runtime: it loads one bundle and serves its predictions.

It runs inside the bundle's own environment, so it needs the standard library and cloudpickle only, and it
imports nothing of `openlaunch`.
"""

from openlaunch_worker.failures import InvalidInput as InvalidInput
