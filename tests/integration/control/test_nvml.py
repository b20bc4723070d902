"""What NVIDIA's library says of GPUs gets into metrics and to the page: by a library that stands in for it."""

import os
import shutil
import subprocess

import pytest
from server_driver import SMALL, args, http, running

from openlaunch.errors import Unprocessable

GIB = 1024**3
LIBRARY = r"""
#include <stdio.h>
typedef struct { unsigned long index; } *device;
static struct { unsigned long index; } devices[2] = {{0}, {1}};
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "an error of the stand-in"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **found) {
    if (index > 1) return 2;
    *found = &devices[index];
    return 0;
}
int nvmlDeviceGetUUID(device it, char *text, unsigned size) {
    snprintf(text, size, "GPU-00000000-0000-0000-0000-00000000000%lu", it->index);
    return 0;
}
int nvmlDeviceGetName(device it, char *text, unsigned size) {
    snprintf(text, size, "NVIDIA H100 80GB HBM3");
    return 0;
}
int nvmlDeviceGetUtilizationRates(device it, unsigned *rates) {
    if (it->index == 1) return 15;  /* NVML_ERROR_GPU_IS_LOST */
    rates[0] = 42; rates[1] = 7;
    return 0;
}
int nvmlDeviceGetMemoryInfo(device it, unsigned long long *memory) {
    memory[0] = 80ull << 30; memory[1] = 50ull << 30; memory[2] = 30ull << 30;
    return 0;
}
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    if not (compiler := shutil.which("cc")):
        pytest.skip("a compiler of C is needed")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(LIBRARY)
    made = [compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", folder / "nvml.c"]
    subprocess.run(made, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_LIBRARY_PATH", str(folder))
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        with running() as client:
            yield client


def test_readings_are_in_metrics_and_a_gpu_that_is_lost_is_left_out(client):
    with http(client) as raw:
        lines = raw.get("/metrics").text.splitlines()
    values = dict(
        line.rsplit(" ", 1) for line in lines if line.startswith("openlaunch_gpu_") and "{gpu=" in line
    )
    assert {name: float(value) for name, value in values.items()} == {
        'openlaunch_gpu_utilization_ratio{gpu="0"}': 0.42,
        'openlaunch_gpu_memory_used_bytes{gpu="0"}': 30 * GIB,
        'openlaunch_gpu_memory_bytes{gpu="0"}': 80 * GIB,
    }


def test_the_page_and_top_get_them_with_the_servers(client):
    found = client.list_servers()
    assert found.gpus == found.free_gpus == 2
    assert [(gpu.index, gpu.utilization, gpu.memory_used, gpu.memory) for gpu in found.gpu_use] == [
        (0, 0.42, 30 * GIB, 80 * GIB)
    ]


def test_an_endpoint_gets_a_gpu_of_its_type_and_no_other(client):
    endpoint = client.deploy(lambda: os.environ["CUDA_VISIBLE_DEVICES"], name="gpu", gpus=1, **SMALL)
    assert endpoint.predict(args()).value in ("0", "GPU-00000000-0000-0000-0000-000000000000")
    assert client.list_servers().free_gpus == 1
    with pytest.raises(Unprocessable, match="asks for 3 GPUs per worker, this machine has 2"):
        client.deploy(lambda: 1, name="more", gpus=3, **SMALL)
