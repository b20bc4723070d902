"""A Ray cluster of tests: a head and nodes, all on this machine; its processes end with the test whatever ends that.

Run as a program it is the cluster: it obeys what it reads from its standard input, a word a line.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

TOKEN = "r" * 40
"""Who does not know it can't run programs on the cluster."""
OF_RAY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
HEAD, NODES = "127.0.0.2", ("127.0.0.3", "127.0.0.4")
"""Ray replaces 127.0.0.1 by the machine's own address."""
CPUS = 2
TRIES = 3
"""A node gives up where its own processes take more than 15 s to start, as they do on a busy machine."""
STORE_BYTES = 80 * 2**20


class RayCluster:
    """A cluster whose nodes have two cores each, on which agents keep their data below `folder`."""

    program = __file__
    """What is run as the cluster."""

    def __init__(self, folder, **settings):
        self.folder = folder
        of_nodes = {f"OPENLAUNCH_{name.upper()}": str(value) for name, value in settings.items()}
        for attempt in range(TRIES):
            self._process = self._started(of_nodes)
            try:
                self.address = self._answer()
                return
            except AssertionError:
                self.close()
                if attempt == TRIES - 1:
                    raise

    def _started(self, of_nodes):
        with (self.folder / "cluster.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, self.program, str(self.folder), json.dumps(of_nodes)],
                env=_environ() | {"RAY_raylet_start_wait_time_s": "60"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    @property
    def environ(self):
        """What a server needs to find it."""
        return {**OF_RAY, "RAY_ADDRESS": self.address}

    def ask(self, word):
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._answer()

    def groups(self):
        """The placement groups, each with its node and its bundle."""
        return self.ask("groups")

    def _answer(self):
        line = self._process.stdout.readline()
        assert line, (self.folder / "cluster.log").read_text()[-3000:]
        return json.loads(line)

    def data_of(self, host):
        return self.folder / host

    def agent_of(self, host):
        """The process of the agent of a node."""
        return int((self.data_of(host) / "lock").read_text() or 0)

    def close(self):
        for host in NODES:
            with suppress(FileNotFoundError, ProcessLookupError, ValueError):
                os.kill(self.agent_of(host), 15)
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _environ():
    """What Ray's programs are started with; they are many, and each would compile anew what it imports."""
    return {**os.environ, **OF_RAY} | {"PYTHONDONTWRITEBYTECODE": ""}


@contextmanager
def ray_cluster(folder, **settings):
    """Run a cluster until the end of the block."""
    cluster = RayCluster(folder, **settings)
    try:
        yield cluster
    finally:
        cluster.close()


def _common(host):
    """What every node is given; it need not wait for ports that its own processes would choose."""
    names = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
    ports = {f"{name}_port": _free_port(host) for name in names}
    return {"node_ip_address": host, "object_store_memory": STORE_BYTES, "include_dashboard": False, **ports}


def _free_port(host):
    with socket.socket() as free:
        free.bind((host, 0))
        return free.getsockname()[1]


class Raylets:
    """The processes of the cluster, in this one's care."""

    def __init__(self, folder, settings):
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **_common(HEAD)})
        self.address, self._head, self._nodes = cluster.address, cluster.head_node, []
        for host in NODES:
            here = {**settings, "OPENLAUNCH_DATA_DIR": str(Path(folder) / host), "OPENLAUNCH_PORT": "0"}
            self._nodes.append(cluster.add_node(num_cpus=CPUS, env_vars=here, **_common(host)))

    def groups(self):
        import ray
        from ray.util.placement_group import placement_group_table

        if not ray.is_initialized():
            ray.init(self.address, namespace="test", log_to_driver=False, logging_level="error")
        return [
            {"name": each["name"], "bundle": each["bundles"][0], "node": each["bundles_to_node_id"][0]}
            for each in placement_group_table().values()
            if each["state"] == "CREATED"
        ]

    def stop_node(self):
        """Have the first node's raylet stand still; its agent is not one of the cluster's processes."""
        self._nodes[0].all_processes["raylet"][0].process.send_signal(signal.SIGSTOP)

    def wake_node(self):
        self._nodes[0].all_processes["raylet"][0].process.send_signal(signal.SIGCONT)

    def kill_head(self):
        import ray

        ray.shutdown()  # which would end this process a minute after the head
        _kill(self._head, "gcs_server", "raylet")

    def wait_for_raylets(self):
        for node in self._nodes:
            node.all_processes["raylet"][0].process.wait(120)

    def kill_all(self):
        for node in (self._head, *self._nodes):
            _kill(node, *node.all_processes)


def _kill(node, *kinds):
    for kind in kinds:
        for info in node.all_processes[kind]:
            info.process.kill()


def main(folder, settings, make=Raylets):
    """Be the cluster, until the end of the input."""
    sys.stdout, answers = sys.stderr, sys.stdout
    raylets = make(folder, settings)
    answer = raylets.address
    while True:
        print(json.dumps(answer), file=answers, flush=True)
        if not (word := sys.stdin.readline().strip()):
            break
        answer = getattr(raylets, word)()
    raylets.kill_all()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
