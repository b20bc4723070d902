"""Who pays for the tokens of a model's request, and where they are counted."""

from dataclasses import dataclass

from openlaunch.server import clock
from openlaunch.server.access.tokens import Account, TokenBudgets
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.work import Work
from openlaunch.server.prediction.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Payer:
    """The account of a request, and the lane of its model."""

    budgets: TokenBudgets
    lane: Lane
    account: Account

    def pay(self, work: Work, usage: TokenUsage) -> None:
        """Count the tokens that a request took: for its model, for its key and its owner, and for the next turns."""
        numbers = work.numbers
        numbers.input_tokens += usage.input
        numbers.output_tokens += usage.output
        numbers.cached_tokens += usage.cached
        self.budgets.use(self.account, usage.total, clock.now())
        self.lane.used_tokens(work.owner, usage.total, waited=bool(work.began))
