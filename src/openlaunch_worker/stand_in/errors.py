"""The errors that a model raises itself."""

from openlaunch_worker.failures import InvalidInput as InvalidInput
