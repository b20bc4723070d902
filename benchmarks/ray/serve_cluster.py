"""Ray Serve on a cluster of tests: a replica and a proxy on each node. Run as a program it is the cluster."""

import json
import os
import signal
import sys
from contextlib import suppress

import psutil
from tests.integration.ray_cluster import NODES, RayCluster, Raylets, main

WORK_SECONDS = 0.02


class ServeCluster(RayCluster):
    """The cluster, whose further words are the methods of `ServeRaylets`."""

    program = __file__


class ServeRaylets(Raylets):
    """The processes of the cluster, on which Serve runs."""

    def serve(self) -> str:
        """Serve the model on each node; return its URL. The proxies of all nodes share the port."""
        import ray
        from ray import serve
        from starlette.requests import Request

        @serve.deployment(num_replicas=len(NODES), max_replicas_per_node=1, ray_actor_options={"num_cpus": 1})
        class Work:
            async def __call__(self, request: Request) -> dict[str, float]:
                import asyncio

                seconds = (await request.json())["args"]["seconds"]
                await asyncio.sleep(seconds)
                return {"result": seconds}

        ray.init(self.address, log_to_driver=False, logging_level="error")
        port = int(os.environ["BENCH_PORT"])
        serve.start(proxy_location="EveryNode", http_options={"host": "0.0.0.0", "port": port})
        serve.run(Work.bind(), route_prefix="/")
        return f"http://127.0.0.1:{port}/"

    def kill_controller(self) -> int:
        """Kill the process of Serve's controller."""
        return _kill_each("ray::ServeController")

    def kill_node(self) -> int:
        """Kill all processes of the last node."""
        return _kill_all(self._nodes.pop())

    def kill_head_node(self) -> int:
        """Kill all processes of the head."""
        import ray

        ray.shutdown()  # which would end this process a minute after the head
        return _kill_all(self._head)


def _kill_each(title: str) -> int:
    found = [
        each
        for each in psutil.process_iter(["cmdline"])
        if (each.info["cmdline"] or [""])[0].startswith(title)
    ]
    for each in found:
        each.kill()
    return len(found)


def _kill_all(node: object) -> int:
    """Kill the processes of a node and what they have started, but for agents, which are in sessions of their own."""
    killed = 0
    for infos in node.all_processes.values():  # type: ignore[attr-defined]
        for info in infos:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                own = psutil.Process(info.process.pid)
                for each in (own, *own.children(recursive=True)):
                    os.kill(each.pid, signal.SIGKILL)
                    killed += 1
    return killed


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), ServeRaylets)
