"""Whose rate budget a call of a person takes."""

from dataclasses import replace

import pytest

from libs.common import ids
from libs.common.rates import RateGate
from libs.connectors.contract import OpenGate
from services.config_api.accounts import AccountRef
from services.config_api.provider_accounts import ProviderAccounts
from tests.services.config_api.served import Served


@pytest.mark.parametrize(
    ("provider", "gate"), [("hubspot", OpenGate), ("constant_contact", RateGate)]
)
async def test_a_first_call_waits_where_limits_are_the_applications(
    served: Served, provider: str, gate: type
) -> None:
    """Proves CC5: a login's first call is one of the four a second, whoever's account it opens."""
    kept = served.parts.accounts
    assert isinstance(kept, ProviderAccounts)
    accounts = replace(kept, opener=replace(kept.opener, paced=True))
    account = AccountRef(ids.new(), ids.new(), provider)

    async with accounts.source(account, credential="tried") as source:
        chosen = source._calls.gate  # type: ignore[attr-defined]  # every source is built on it

    assert type(chosen) is gate
