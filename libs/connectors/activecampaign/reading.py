"""Contacts as they stand at ActiveCampaign, with their values and how they stand to each list.

A page of contacts brings along what belongs to them, if asked to. Where it does not (that is seen,
but not promised), each contact is asked for: that is promised, and costs a call each.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import quote, urlencode

from libs.common.errors import MisconfiguredError
from libs.connectors.activecampaign import facts, payload
from libs.connectors.activecampaign.calls import Calls
from libs.connectors.activecampaign.payload import CustomFields, FieldRecord, ListRecord, Sighting

FIELDS_KEPT_S = 300.0  # A field that is renamed or deleted meanwhile is missed for so long.
_BESIDE = "contactLists,fieldValues"


class Reader:
    """What is asked of one account; its custom fields are kept for some minutes."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._fields: CustomFields | None = None
        self._fields_until_s = 0.0

    async def fields(self, names: Collection[str] = ()) -> CustomFields:
        """Return the custom fields; raise MisconfiguredError if one of the names is none of them.

        Asked anew if they were read too long ago, or one of the names is not among them.
        """
        now_s = asyncio.get_running_loop().time()
        kept = self._fields
        if kept is not None and now_s < self._fields_until_s and not kept.lacks(names):
            return kept
        fresh = await self.fresh_fields()
        if fresh.lacks(names):
            raise MisconfiguredError(self._calls.host, "attribute_missing")
        return fresh

    async def fresh_fields(self) -> CustomFields:
        """Return the custom fields as they are now."""
        found: list[FieldRecord] = []
        while True:
            answer = await self._calls.get(_paged("/fields", len(found)))
            page = answer.decode(payload.FIELD_PAGE).fields
            found += page
            if len(page) < facts.PAGE_MAX:
                break
        self._fields = CustomFields(found)
        self._fields_until_s = asyncio.get_running_loop().time() + FIELDS_KEPT_S
        return self._fields

    async def lists(self) -> list[ListRecord]:
        """Return every list."""
        found: list[ListRecord] = []
        while True:
            answer = await self._calls.get(_paged("/lists", len(found)))
            page = answer.decode(payload.LIST_PAGE).lists
            found += page
            if len(page) < facts.PAGE_MAX:
                return found

    async def check_list(self, list_id: str) -> None:
        """Raise MisconfiguredError(list_missing) if there is no such list.

        What the importer does with an unknown list is not documented, so it is asked before.
        """
        answer = await self._calls.get(f"/lists/{quote(list_id, safe='')}", expect=(404,))
        if answer.status == 404:
            raise MisconfiguredError(self._calls.host, "list_missing")

    async def find(self, email: str) -> Sighting | None:
        """Return the contact with an address; None if there is none."""
        found = await self.contacts({"email": email})
        return next((each for each in found if is_at(each, email)), None)

    async def with_ids(self, ids: Sequence[str]) -> list[Sighting]:
        """Return the contacts with these ids; who is gone is left out."""
        found: list[Sighting] = []
        for first in range(0, len(ids), facts.PAGE_MAX):
            some = ids[first : first + facts.PAGE_MAX]
            found += await self.contacts({"ids[]": some, "limit": facts.PAGE_MAX})
        return found

    async def contacts(self, query: dict[str, object]) -> list[Sighting]:
        """Return the contacts that a query finds, at most a page of them."""
        fields = await self.fields()
        path = "/contacts?" + urlencode({**query, "include": _BESIDE}, doseq=True)
        page = (await self._calls.get(path)).decode(payload.CONTACT_PAGE)
        if page.contact_lists is not None and page.field_values is not None:
            return payload.sightings_of(
                page.contacts, page.contact_lists, page.field_values, fields
            )
        return await self._one_by_one((str(each.id) for each in page.contacts), fields)

    async def _one_by_one(self, ids: Iterable[str], fields: CustomFields) -> list[Sighting]:
        found: list[Sighting] = []
        for contact_id in ids:
            answer = await self._calls.get(f"/contacts/{quote(contact_id)}", expect=(404,))
            if answer.status != 404:
                each = answer.decode(payload.CONTACT)
                found += payload.sightings_of(
                    [each.contact], each.contact_lists, each.field_values, fields
                )
        return found


def is_at(sighting: Sighting, email: str) -> bool:
    """Return whether a contact has an address."""
    return (sighting.remote.identity.email or "").lower() == email.lower()


def _paged(path: str, offset: int) -> str:
    return f"{path}?limit={facts.PAGE_MAX}&offset={offset}"
