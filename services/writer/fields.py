"""Makes the fields that automatic imports want at their destinations (AC1).

Called within a turn only, so that it never crosses with writes (PROTOCOL.md 5). Promises: a field
is in an integration's mapping only once it is there; one that was made by a process that died is
found by its name, not made twice; one that the destination refuses holds no other up, and says so.
What cannot be made now is tried again in a while, and what was made until then is mapped.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any, Protocol
from uuid import UUID

from libs.common import logs
from libs.common.errors import (
    ConfigurationError,
    LeaseLostError,
    NeedsReauthError,
    RequestRefusedError,
    SyncError,
)
from libs.common.postgres import Transaction, Transactions, transact
from libs.common.reasons import Trouble
from libs.connectors.automatic import WantedField, place_of
from libs.connectors.contract import Destination, Field
from services.writer import store
from services.writer.account import Account
from services.writer.health import Blocks
from services.writer.store import FieldWish

FIELDS_AGAIN = timedelta(minutes=1)  # After a failure: fields are no reason to hurry.
# Some 10 s of a turn at ActiveCampaign's 5 calls a second, four for each field.
AT_ONCE_MAX = 12

NO_PLACE = "no_place"  # It was made, and is not there: the destination calls it something else.

log = logs.get(__name__)


class Opens(Protocol):
    """Who opens destinations, and knows how they are."""

    @property
    def blocks(self) -> Blocks:
        """Return who stores and tells what is wrong with them."""

    async def destination_of(self, account: Account) -> Destination | None:
        """Return an account's destination; None if its credentials can not be used."""


class Fields:
    """The fields that are wanted at this process's destinations."""

    def __init__(self, sessions: Transactions, opens: Opens) -> None:
        self._sessions = sessions
        self._opens = opens

    async def make(self, account: Account, wishes: Sequence[FieldWish]) -> bool:
        """Make what is wanted at a destination and not there, and map it; return if more is."""
        destination = await self._opens.destination_of(account) if wishes else None
        if destination is None:
            return False
        try:
            return await self._make_all(account, destination, wishes)
        except LeaseLostError:
            raise
        except SyncError as error:
            log.warning("fields_not_made", error=type(error).__name__, count=len(wishes))
            await self._put_off(account, wishes, error)
            return False

    async def _make_all(
        self, account: Account, destination: Destination, wishes: Sequence[FieldWish]
    ) -> bool:
        attributes = await destination.describe_attributes()
        missing = {
            wish.wanted.title: wish for wish in wishes if place_of(wish.wanted, attributes) is None
        }
        now = list(missing.values())[:AT_ONCE_MAX]
        if now:
            made = [wish for wish in now if await self._make_one(account, destination, wish)]
            attributes = await destination.describe_attributes()
            for wish in made:
                if place_of(wish.wanted, attributes) is None:
                    await self._refuse(account, wish, NO_PLACE)
        for integration, own in groupby(wishes, key=lambda wish: wish.integration):
            # All of them at once: each new version has everything read anew.
            await self._map(account, integration, [wish.wanted for wish in own], attributes)
        return len(missing) > len(now)

    async def _make_one(self, account: Account, destination: Destination, wish: FieldWish) -> bool:
        """Make a field; return False if the destination refuses it."""
        try:
            await destination.make_attribute(wish.wanted.title, wish.wanted.made_as)
        except RequestRefusedError as error:
            await self._refuse(account, wish, error.code)
            return False
        return True

    async def _refuse(self, account: Account, wish: FieldWish, reason: str) -> None:
        """Keep a field as refused for everybody who wants the same one here."""
        log.warning("field_refused", integration=str(wish.integration), code=reason)

        async def work(session: Transaction) -> None:
            await account.lease.keep(session)
            await store.refuse_field(
                session,
                connection=account.connection,
                title=wish.wanted.title,
                reason=reason,
            )

        await transact(self._sessions, work)

    async def _map(
        self,
        account: Account,
        integration: UUID,
        wanted: Sequence[WantedField],
        attributes: Sequence[Field],
    ) -> None:
        """Map an integration's fields once all of them have a place or were refused."""

        async def work(session: Transaction) -> None:
            await account.lease.keep(session)
            left = await store.wanted_fields(session, account.connection, again=FIELDS_AGAIN)
            names = {wish.wanted.source for wish in left if wish.integration == integration}
            places = [(each, place_of(each, attributes)) for each in wanted if each.source in names]
            if any(place is None for _, place in places):
                return
            entries = _entries((each, place) for each, place in places if place is not None)
            await store.add_fields(session, integration=integration, fields=entries)
            await self._opens.blocks.fields_made(session, account, integration)

        await transact(self._sessions, work)

    async def _put_off(
        self, account: Account, wishes: Sequence[FieldWish], error: SyncError
    ) -> None:
        """Try again in a while; say so to who must do something about it."""
        blocks = self._opens.blocks
        if isinstance(error, NeedsReauthError):
            await blocks.count_failure(account, error.reason)

        async def work(session: Transaction) -> None:
            await account.lease.keep(session)
            await store.try_fields_later(session, account.connection)
            if isinstance(error, ConfigurationError) and not isinstance(error, NeedsReauthError):
                for integration in dict.fromkeys(wish.integration for wish in wishes):
                    await blocks.misconfigured(
                        session, account, integration, Trouble.FIELDS_NOT_MADE
                    )

        await transact(self._sessions, work)


def _entries(places: Iterable[tuple[WantedField, Field]]) -> list[dict[str, Any]]:
    """Return fields with their places as a mapping has them."""
    entries: list[dict[str, Any]] = []
    for wanted, place in places:
        entry: dict[str, Any] = {
            "source": wanted.source,
            "source_type": wanted.type.value,
            "destination": place.name,
            "destination_type": place.type.value,
        }
        if place.length_max is not None:
            entry["length_max"] = place.length_max
        entries.append(entry)
    return entries
