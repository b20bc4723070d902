from openlaunch.server.dispatch.backlog import Backlog, OwnerCounts


def backlog_of(**counts):
    backlog = OwnerCounts()
    for owner, count in counts.items():
        backlog.add(owner, count)
    return backlog


def test_counts_are_kept_by_owner():
    backlog = backlog_of(ada=3, bob=1)
    backlog.add("ada")
    backlog.take("bob")
    assert (backlog.size, backlog.of("ada"), backlog.of("bob")) == (4, 4, 0)


def test_what_is_taken_beyond_what_is_known_is_passed_over():
    backlog = backlog_of(ada=1)
    backlog.take("ada", 2)
    backlog.take("bob")
    assert (backlog.size, backlog.of("ada"), backlog.of("bob")) == (0, 0, 0)


def test_counts_can_be_set_right():
    backlog = backlog_of(ada=3)
    backlog.reset({"bob": 2, "cyd": 5})
    assert (backlog.size, backlog.of("ada"), backlog.of("bob")) == (7, 0, 2)


def test_before_ones_next_task_come_ones_own_and_as_many_turns_of_others():
    backlog = backlog_of(ada=100, bob=2)
    assert backlog.ahead_of("ada") == 102
    assert backlog.ahead_of("bob") == 5
    assert backlog.ahead_of("cyd") == 2


def test_tasks_on_their_way_to_the_store_are_counted_apart_until_it_answers():
    backlog = Backlog()
    backlog.expect("ada", 3, claiming=2)
    assert (backlog.size, backlog.arriving.size, backlog.claiming) == (0, 3, 2)
    backlog.arrived("ada", 3, claiming=2)
    assert (backlog.size, backlog.arriving.size, backlog.claiming) == (0, 0, 0)


def test_the_turn_goes_to_whose_task_was_claimed_last():
    backlog = Backlog()
    backlog.reset({"ada": 2, "bob": 2})
    backlog.claimed(["ada", "bob", "ada"])
    assert (backlog.size, backlog.of("bob"), backlog.last_owner) == (1, 1, "ada")
