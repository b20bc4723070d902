"""The access log holds a bounded number of lines, and says what it can't write."""

import pytest
from server_links import in_loop

from openlaunch.errors import ConfigurationError
from openlaunch.server.gateway.access_log import MAX_LINES, AccessLog


@in_loop
async def test_what_there_is_no_room_for_is_dropped_and_counted(tmp_path):
    log = AccessLog(str(tmp_path / "log"))
    for number in range(MAX_LINES + 5):
        log.add(failed=False, number=number)
    await log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == "dropped=5"


@in_loop
async def test_values_stay_in_their_fields_and_on_their_line(tmp_path):
    log = AccessLog(str(tmp_path / "log"))
    log.add(failed=False, owner='a "b"\nstatus=200', key=None)
    await log.close()
    assert (tmp_path / "log").read_text().endswith(' owner="a \\"b\\"\\nstatus=200" key=-\n')


@in_loop
async def test_a_log_that_can_not_be_written_is_an_error_at_the_start(tmp_path):
    with pytest.raises(ConfigurationError, match=r"the access log .* can't be written"):
        AccessLog(str(tmp_path / "no-such-folder" / "log"))
