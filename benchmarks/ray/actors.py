"""An actor of Ray: from its order to its first answer. `actors.py TIMES` prints one line of JSON, in milliseconds."""

import json
import sys
import time

import ray


@ray.remote(num_cpus=0)
class Actor:
    def ping(self) -> int:
        return 1


def answered() -> float:
    began = time.perf_counter()
    ray.get(Actor.remote().ping.remote())
    return 1000 * (time.perf_counter() - began)


ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error", object_store_memory=80 * 2**20)
print(json.dumps([answered() for _ in range(int(sys.argv[1]))]))
ray.shutdown()
