"""What quotas may be."""

import pytest
from pydantic import ValidationError

from openlaunch.wire.quotas import SetQuotasRequest


@pytest.mark.parametrize("given", ["-1", -1, 0.5, "many", "500m"])
def test_a_number_of_things_is_a_whole_number(given):
    with pytest.raises(ValidationError, match="is not a number such as 10, or 0 for none"):
        SetQuotasRequest(endpoints=given)


def test_cores_may_be_parts():
    assert SetQuotasRequest(endpoints="0", cpus="500m", gpus="unlimited").cpus == 0.5
