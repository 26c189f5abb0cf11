"""Many customers: workspaces whose one list goes to an account of their own each.

All read one HubSpot portal. What is measured with them is what comes behind it: destinations,
their leases, the partitions that they share.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.accounts import Account
from benchmarks.world import FIELDS, QUOTA, SOURCE_LIST, World
from local import wizard
from local.api import Api, Json
from local.parties import BREVO, DESTINATIONS, HUBSPOT

DESTINATION_LIST = "Newsletter from HubSpot"


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer: its view of the API, its integration, and where that writes to."""

    api: Api
    integration: str
    account: Account
    credentials: Mapping[str, str]


async def settle(world: World, count: int, *, source_lists: Sequence[str] = ()) -> list[Tenant]:
    """Set up so many tenants side by side, their integrations as drafts.

    `source_lists` are the lists of the first ones; all others have the world's own.
    """
    lists = [*source_lists, *[SOURCE_LIST] * count][:count]
    tenants = await asyncio.gather(*(_settle(world, *each) for each in enumerate(lists)))
    for tenant in tenants:
        world.integrations.append(tenant.integration)
        world.accounts.append(tenant.account)
    return list(tenants)


async def activate(tenants: Sequence[Tenant]) -> None:
    """Activate every tenant's integration at once."""
    await asyncio.gather(*(wizard.activate(each.api, each.integration) for each in tenants))


async def open_account(world: World, name: str) -> tuple[Account, Json]:
    """Open another account of the destination, without limits; return it and its credentials."""
    made = await world.destination.open_account(name)
    opening = Account.of(world.stack.providers[world.writes], made["account"])
    account = await world.exits.enter_async_context(opening)
    await account.lift_limits()
    return account, made


async def settle_beside(world: World, tenant: Tenant) -> Tenant:
    """Set up another customer who writes to the same account by a key of its own; a draft."""
    credentials = {**tenant.credentials, "api_key": await tenant.account.add_key()}
    beside = await _set_up(world, tenant.account, credentials, SOURCE_LIST, "Another newsletter")
    world.integrations.append(beside.integration)
    return beside


async def _settle(world: World, number: int, source_list: str) -> Tenant:
    account, made = await open_account(world, f"account-{number}")
    shown = ("api_key", "account_url")
    credentials: Mapping[str, str] = {name: str(made[name]) for name in shown if name in made}
    return await _set_up(world, account, credentials, source_list, DESTINATION_LIST)


async def _set_up(
    world: World,
    account: Account,
    credentials: Mapping[str, str],
    source_list: str,
    destination_list: str,
) -> Tenant:
    made = await wizard.create_workspace(world.operator, quota_limit=QUOTA)
    api = await world.exits.enter_async_context(Api.connect(world.stack.api, made.api_key))
    pair = (HUBSPOT, DESTINATIONS[world.writes])
    integration = await wizard.set_up(
        api,
        source_list=source_list,
        destination_list=destination_list,
        pair=pair,
        credentials=credentials,
        fields=FIELDS if world.writes == BREVO.provider else None,
    )
    return Tenant(api, integration, account, credentials)
