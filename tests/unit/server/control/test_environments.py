"""How environments are shown: what uses them, by its name."""

import pytest

from openlaunch.engines.documents import EnvironmentInfo
from openlaunch.server.control.routes.environments import _response
from openlaunch.wire.keys import ALL_OWNERS

USED = [("ada", "digits"), ("bob", "words"), ("job_1", "batch job job_1")]


@pytest.mark.parametrize(
    ("caller", "expected"),
    [(ALL_OWNERS, ["ada/digits", "batch job job_1", "bob/words"]), ("ada", ["digits"])],
)
def test_what_uses_an_environment_has_its_owner_before_its_name_where_that_is_somebody_else(caller, expected):
    environment = EnvironmentInfo(id="e", owner="", python="3.11", requirements=(), size=0, used_at=0.0)
    assert _response(environment, USED, caller).used_by == expected
