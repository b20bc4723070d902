from openlaunch.nodes.epochs import Epochs


def test_an_older_leader_is_refused_once_a_newer_one_was_seen():
    epochs = Epochs()
    assert [epochs.obeys(epoch) for epoch in (3, 3, 4, 3, 4, 9, 8)] == [
        True,
        True,
        True,
        False,
        True,
        True,
        False,
    ]
    assert epochs.highest == 9


def test_an_agent_that_starts_anew_refuses_what_it_refused_before():
    before = Epochs()
    before.obeys(7)
    assert not Epochs(before.highest).obeys(6)
