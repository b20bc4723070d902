"""Ids that begin with the time."""

from openlaunch.wire.ids import new_id


def test_ids_are_in_the_order_of_their_time():
    ids = [new_id(1.8e9 + n / 1000 + 0.0005) for n in range(20)]
    assert ids == sorted(ids)


def test_ids_of_one_moment_are_distinct_and_as_long():
    ids = {new_id(1.8e9) for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(one) for one in ids} == {32}
