"""What uv does now, from the lines that it prints."""

from openlaunch.engines.uv_progress import UvProgress

OUTPUT = """\
Using Python 3.11.7 environment at: v
Resolved 5 packages in 1.97s
Downloading pandas (12.2MiB)
Downloading numpy (16.1MiB)
   Building slow==1.0
Downloading torch (846.6MiB)
 Downloaded pandas
 Downloaded numpy
 Downloaded torch
      Built slow==1.0
Prepared 5 packages in 7.52s
Installed 1 package in 559ms
 + numpy==2.4.6
"""


def test_what_is_under_way_comes_first_with_its_size():
    progress = UvProgress()
    steps = [progress.read(line) for line in OUTPUT.splitlines()]
    two = "downloading pandas (12.2MiB), downloading numpy (16.1MiB)"
    assert steps == [
        None,
        "fetching 5 packages",
        "downloading pandas (12.2MiB)",
        two,
        f"{two}, building slow==1.0",
        f"{two}, building slow==1.0 and 1 more",
        "downloading numpy (16.1MiB), building slow==1.0, downloading torch (846.6MiB)",
        "building slow==1.0, downloading torch (846.6MiB)",
        "building slow==1.0",
        "fetching 5 packages",
        "installing 5 packages",
        "compiling 1 package",
        None,
    ]


def test_urls_and_long_lines_are_not_shown():
    progress = UvProgress()
    assert progress.read("   Building thing @ https://user:secret@host/thing.tar.gz") == "building thing"
    assert len(progress.read(f"Downloading {'x' * 5000} (1.0MiB)") or "") < 200
    for number in range(5000):
        progress.read(f"Downloading p{number} (1.0MiB)")
    assert (progress.read("Downloading more (1.0MiB)") or "").endswith("and 997 more")
