"""Writes the OpenAPI document to its standard output: a process of the server that answers `/openapi.json`."""

import json
import sys
from typing import cast

from openlaunch.server.control.app import control_plane
from openlaunch.server.control.context import Context

if __name__ == "__main__":
    # The routes look at the parts of a server only when they are called.
    json.dump(control_plane(cast("Context", None)).openapi(), sys.stdout, ensure_ascii=False)
