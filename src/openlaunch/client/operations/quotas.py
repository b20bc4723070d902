"""Quotas of owners."""

from typing import Unpack

from openlaunch.client.effects import Flow, Request, json_body, path_to, url_with
from openlaunch.client.models import answer, checked, got
from openlaunch.client.operations.keywords import given
from openlaunch.wire import routes
from openlaunch.wire.keywords import QuotaKeywords
from openlaunch.wire.quotas import ListQuotasResponse, OwnerQuotas, SetQuotasRequest


def list_quotas(owner: str | None = None) -> Flow[list[OwnerQuotas]]:
    """List what you use and what you may; an admin lists it of all owners, or of one."""
    return (yield from got(ListQuotasResponse, url_with(routes.QUOTAS, {"owner": owner}))).quotas


def set_quotas(owner: str, **quotas: Unpack[QuotaKeywords]) -> Flow[OwnerQuotas]:
    """Set quotas of an owner, for admins. Those that are not given stay as they are.

    What the owner has already stays, also where it is more than is allowed then. What would make it more is refused.

    Args:
        owner: whose quotas.
        **quotas: each a number, "unlimited", or "default" for the server's setting;
            `openlaunch.wire.keywords.QuotaKeywords` describes them.

    Raises:
        TypeError: a keyword is unknown.
        NotFound: nobody has a key of this owner.
    """
    body = json_body(checked(SetQuotasRequest, given(QuotaKeywords, quotas)))
    return (
        yield from answer(OwnerQuotas, Request("PUT", path_to(routes.QUOTAS, owner), body, idempotent=True))
    )
