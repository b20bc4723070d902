"""What holds for every test."""

import signal

import pytest
from hypothesis import HealthCheck, settings

# What takes 200 ms on a busy machine is no fault.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A suite started in the background of a script ignores Ctrl-C, and so would every process it starts."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def no_profile(tmp_path_factory):
    """Nobody's own profiles: a server that a test starts is the one that is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENLAUNCH_CONFIG_FILE", str(tmp_path_factory.getbasetemp() / "no-config.toml"))
        yield


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory):
    """Let private servers isolate workers as others do, and models write where tests look, whoever they run as."""
    base = tmp_path_factory.getbasetemp()
    base.chmod(0o755)  # below a folder that is this user's alone
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENLAUNCH_SHARED_FOLDERS", str(base))
        patch.setenv("OPENLAUNCH_ISOLATION", "auto")
        yield


@pytest.fixture(scope="session")
def azure(tmp_path_factory):
    """Azure's emulator of its storage."""
    from azure_server import azure_server, why_not

    if (missing := why_not()) is not None:
        pytest.skip(missing)
    with azure_server(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server, started when the first test asks for it."""
    from s3_server import s3_server

    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def tmp_path(tmp_path):
    """A folder that models can write to, too."""
    tmp_path.chmod(0o777)
    return tmp_path
