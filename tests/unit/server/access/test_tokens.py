"""Budgets of tokens: what keys and owners have used, and what is left."""

import pytest

from openlaunch.errors import TooManyRequests
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.access.tokens import Account, TokenBudgets

DAY = 86400
KEY = Account("key-1", "ada")


def budgets(of_key=None, of_owner=None):
    quotas = Quotas()
    quotas.set_all({"ada": of_owner or {}})
    made = TokenBudgets(quotas)
    made.set_limits({"key-1": of_key} if of_key else {})
    return made


def refused(made, now, account=KEY):
    with pytest.raises(TooManyRequests) as error:
        made.check(account, now)
    return error.value


def test_a_request_is_admitted_while_anything_is_left_and_pays_afterwards():
    made = budgets({"tokens_per_minute": 600})
    made.use(KEY, 599, 0)
    made.check(KEY, 0)
    made.use(KEY, 700, 0)
    error = refused(made, 0)
    assert error.retry_after == pytest.approx(70, abs=0.2)
    assert "this key may use 600 tokens a minute" in error.message
    refused(made, error.retry_after - 1)
    made.check(KEY, error.retry_after)


def test_an_owners_keys_pay_together():
    made = budgets(of_owner={"tokens_per_day": 100})
    made.use(KEY, 50, DAY)
    made.use(Account("key-2", "ada"), 50, DAY)
    assert "the owner 'ada' may use 100 tokens a day" in refused(made, DAY + 10).message
    assert refused(made, DAY + 10).retry_after == DAY - 10
    made.check(Account("key-3", "bob"), DAY + 10)
    made.check(KEY, 2 * DAY)


def test_what_is_left_is_in_headers():
    made = budgets({"tokens_per_minute": 600}, {"tokens_per_minute": 300})
    made.use(KEY, 100, 0)
    assert made.headers(KEY, 0) == {
        "x-ratelimit-limit-tokens": "300",
        "x-ratelimit-remaining-tokens": "200",
        "x-ratelimit-reset-tokens": "20.000s",
    }
    assert budgets().headers(KEY, 0) == {}


def test_what_other_servers_have_saved_counts_and_nothing_counts_twice():
    made = budgets(of_owner={"tokens_per_day": 100})
    made.use(KEY, 10, DAY)
    used = made.take_unsaved()
    assert used == {(1, KEY): 10}
    made.use(KEY, 5, DAY)
    made.learn(1, [("key-1", "ada", 30), ("key-2", "ada", 40)])
    assert made.key("key-1").today_at(DAY) == 35
    assert made.used_by("ada", DAY)["tokens_per_day"] == 75
    made.put_back({(1, KEY): 2})
    assert made.take_unsaved() == {(1, KEY): 7}


def test_what_was_used_before_midnight_counts_on_that_day_also_where_it_is_stored_after_that():
    made = budgets({"tokens_per_day": 100})
    made.use(KEY, 99, 2 * DAY - 0.1)
    made.check(KEY, 2 * DAY - 0.1)
    made.use(KEY, 1, 2 * DAY - 0.1)
    assert refused(made, 2 * DAY - 0.1).retry_after == pytest.approx(0.1)
    made.check(KEY, 2 * DAY)
    made.use(KEY, 7, 2 * DAY)
    made.learn(2, [])
    assert made.key("key-1").today_at(2 * DAY) == 7
    assert made.take_unsaved() == {(1, KEY): 100, (2, KEY): 7}


def test_a_clock_that_is_set_back_takes_nothing_from_a_minute():
    made = budgets({"tokens_per_minute": 600})
    made.use(KEY, 300, 1000)
    made.check(KEY, 0)
    assert made.headers(KEY, 0)["x-ratelimit-remaining-tokens"] == "300"


def test_the_headers_are_of_the_limit_of_which_least_is_left():
    made = budgets({"tokens_per_day": 1000}, {"tokens_per_minute": 600})
    made.use(KEY, 100, 10)
    assert made.headers(KEY, 10)["x-ratelimit-limit-tokens"] == "600"
    made.use(KEY, 850, 5000)
    assert made.headers(KEY, 5100) == {
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "50",
        "x-ratelimit-reset-tokens": f"{DAY - 5100}.000s",
    }
    assert made.headers(KEY, DAY)["x-ratelimit-reset-tokens"] == "0.000s"
