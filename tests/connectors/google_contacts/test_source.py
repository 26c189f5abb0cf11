"""Google Contacts as a source: the conformance suite, and what only Google does."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    PositionLostError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
)
from libs.common.events import Change
from libs.connectors.account import StaticToken
from libs.connectors.contract import Cursor, Gate, OpenGate, Page, Source, Sweep
from libs.connectors.google_contacts import facts
from libs.connectors.google_contacts.source import GoogleContactsSource
from sandbox.clock import Clock
from sandbox.google_contacts.app import create_app
from sandbox.google_contacts.state import State
from sandbox.google_contacts.tokens import STANDING_TOKEN
from tests.connectors.conformance import FOREVER_MS, SourceConformance, members_of, sweep_all
from tests.connectors.served import RecordingGate, Served, served

PROPERTIES = ("email", "first_name", "last_name", "mobile_phone", "city")
LIST = "Newsletter"


def source_of(provider: Served, gate: Gate | None = None, token: str = "") -> GoogleContactsSource:
    tokens = StaticToken(token or STANDING_TOKEN)
    return GoogleContactsSource(provider.http, gate or OpenGate(), tokens, provider.url)


def sweep(
    list_id: str | None = None,
    *,
    position: str | None = None,
    properties: Sequence[str] = PROPERTIES,
) -> Sweep:
    since_ms = None if position is None else 0
    return Sweep("contacts", list_id, properties, since_ms, FOREVER_MS, position)


async def fill(provider: Served, count: int, **wishes: Any) -> tuple[str, list[str]]:
    wish = {"count": count, "list": LIST, "invalid_share": 0, **wishes}
    told = await provider.post("contacts:fill", wish)
    return told["list_id"], told["ids"]


async def put(provider: Served, *people: dict[str, Any], list_: str | None = None) -> list[str]:
    contacts = [{"properties": each} for each in people]
    wish = {"contacts": contacts, **({"list": list_} if list_ else {})}
    ids: list[str] = (await provider.post("contacts:upsert", wish))["ids"]
    return ids


async def pages_of(source: Source, wanted: Sweep) -> list[Page]:
    """Read a sweep to its end, page by page."""
    pages: list[Page] = []
    cursor: Cursor | None = None
    while not pages or cursor is not None:
        pages.append(await source.read_page(wanted, cursor))
        cursor = pages[-1].cursor
    return pages


async def position_of(source: GoogleContactsSource) -> str:
    position = (await pages_of(source, sweep()))[-1].position
    assert position is not None
    return position


def values(change: Change) -> dict[str, Any]:
    return msgspec.json.decode(change.properties, type=dict[str, Any])


class TestConformance(SourceConformance):
    properties = PROPERTIES
    page_max = 1_000
    several_pages = 1_050

    def source(
        self, provider: Served, gate: Gate | None = None, token: str = ""
    ) -> GoogleContactsSource:
        return source_of(provider, gate, token)

    async def fill(self, provider: Served, count: int) -> list[str]:
        _, ids = await fill(provider, count)
        return ids

    async def change(self, provider: Served, count: int) -> list[str]:
        await provider.put("clock", {"advance_s": 2})
        told = await provider.post("contacts:change", {"count": count, "seed": 2})
        return [str(each) for each in told["ids"]]

    async def idle(self, source: Source) -> Sweep:
        # Without a position it reads everything, and picks out what changed.
        pages = await pages_of(source, self.sweep())
        return replace(self.sweep(since_ms=1), position=pages[-1].position)


async def test_more_than_10000_contacts_on_one_second_are_all_read() -> None:
    """Fault 18. Proves S1: pages go by Google's own tokens, and so do sweeps of what changed."""
    stopped = Clock(lambda: 1_790_000_000.0)
    async with served(create_app(State(clock=stopped))) as provider:
        source = source_of(provider)
        position = await position_of(source)
        _, ids = await fill(provider, 10_050)

        everyone = await sweep_all(source, sweep())
        changed = await sweep_all(source, sweep(position=position))

    # Its clock goes on by a microsecond with each of them: to us that is one time and ten others.
    assert len({each.version_ms for each in everyone}) < 20
    assert sorted(each.id for each in everyone) == sorted(ids)
    assert sorted(each.id for each in changed) == sorted(ids)


class TestSync:
    async def test_only_the_last_page_says_where_the_next_sweep_starts(
        self, provider: Served
    ) -> None:
        await fill(provider, 1_050)

        pages = await pages_of(source_of(provider), sweep())

        assert [page.position is None for page in pages] == [True, False]

    async def test_a_sweep_from_a_position_holds_what_changed_since(self, provider: Served) -> None:
        """Proves S1 and S4: edits, newcomers, and who was deleted, in one call."""
        _, ids = await fill(provider, 10)
        source = source_of(provider)
        position = await position_of(source)
        await provider.post("contacts:change", {"ids": ids[:2]})
        await provider.post("contacts:delete", {"ids": ids[2:3]})
        [new] = await put(provider, {"email": "new@example.com"})
        await provider.post("calls:reset", {})

        [page] = await pages_of(source, sweep(position=position))

        assert sorted(change.id for change in page.changes) == sorted([*ids[:2], new])
        assert list(page.gone) == ids[2:3]
        assert not page.is_narrowed
        assert await provider.calls() == {"GET /v1/people/me/connections": 1}

    async def test_positions_follow_one_another_and_an_idle_one_tells_of_nobody(
        self, provider: Served
    ) -> None:
        _, ids = await fill(provider, 3)
        source = source_of(provider)
        first = await position_of(source)

        [idle] = await pages_of(source, sweep(position=first))
        await provider.post("contacts:change", {"ids": ids[:1]})
        [second] = await pages_of(source, sweep(position=idle.position))
        [again] = await pages_of(source, sweep(position=second.position))

        assert (list(idle.changes), list(idle.gone)) == ([], [])
        assert [change.id for change in second.changes] == ids[:1]
        assert list(again.changes) == []

    async def test_many_changes_come_on_several_pages(self, provider: Served) -> None:
        await fill(provider, 1_050)
        source = source_of(provider)
        position = await position_of(source)
        await provider.post("contacts:change", {"share": 1})
        await provider.post("contacts:delete", {"count": 30})

        pages = await pages_of(source, sweep(position=position))

        assert len(pages) == 2
        gone = {each for page in pages for each in page.gone}
        assert len(gone) == 30
        assert len({change.id for page in pages for change in page.changes}) == 1_020

    async def test_joiners_and_leavers_of_a_group_are_told_of(self, provider: Served) -> None:
        """Proves W3, S4: by the memberships of who changed."""
        list_id, ids = await fill(provider, 4)
        others = await put(provider, {"email": "a@example.com"}, {"email": "b@example.com"})
        source = source_of(provider)
        position = await position_of(source)
        await provider.post(f"lists/{LIST}:leave", {"ids": ids[:1]})
        await provider.post(f"lists/{LIST}:join", {"ids": others[:1]})
        await provider.post("contacts:change", {"ids": [ids[1], others[1]]})
        await provider.post("contacts:delete", {"ids": ids[3:]})

        [page] = await pages_of(source, sweep(list_id, position=position))

        assert {change.id for change in page.changes} == {ids[1], others[0]}
        assert {ids[0], ids[3]} <= set(page.gone)
        assert not set(page.gone) & {ids[1], ids[2], others[0]}
        assert page.is_narrowed

    async def test_a_new_resource_name_names_the_old_one(self, provider: Served) -> None:
        """A link to a profile renames a contact: it is followed, not deleted and made anew."""
        _, ids = await fill(provider, 2)
        source = source_of(provider)
        position = await position_of(source)
        [renamed] = (await provider.post("contacts:rename", {"ids": ids[:1]}))["ids"]

        [page] = await pages_of(source, sweep(position=position))

        [change] = page.changes
        assert (change.id, list(change.merged_from)) == (renamed, ids[:1])
        assert list(page.gone) == []

    @pytest.mark.parametrize("code", [400, 410])
    @pytest.mark.parametrize("status", ["FAILED_PRECONDITION", "INVALID_ARGUMENT"])
    async def test_an_expired_position_is_lost(
        self, provider: Served, code: int, status: str
    ) -> None:
        """The status and the code differ between captured answers: the reason decides."""
        await fill(provider, 2)
        source = source_of(provider)
        position = await position_of(source)
        await provider.put("settings", {"expired_code": code, "expired_status": status})
        await provider.put("clock", {"advance_s": 7 * 86_400})

        with pytest.raises(PositionLostError):
            await source.read_page(sweep(position=position), None)
        [everyone] = await pages_of(source, sweep())
        assert len(everyone.changes) == 2

    async def test_the_chain_ends_seven_days_after_the_full_read(self, provider: Served) -> None:
        source = source_of(provider)
        position: str | None = await position_of(source)
        for _ in range(3):
            await provider.put("clock", {"advance_s": 2 * 86_400})
            [page] = await pages_of(source, sweep(position=position))
            position = page.position
        await provider.put("clock", {"advance_s": 2 * 86_400})

        with pytest.raises(PositionLostError):
            await source.read_page(sweep(position=position), None)

    async def test_a_position_that_expires_on_the_way_is_lost(self, provider: Served) -> None:
        """Proves S1: the second page of what changed is refused."""
        await fill(provider, 1_050)
        source = source_of(provider)
        position = await position_of(source)
        await provider.post("contacts:change", {"share": 1})
        first = await source.read_page(sweep(position=position), None)
        await provider.post("sync-tokens:expire", {})

        with pytest.raises(PositionLostError):
            await source.read_page(sweep(position=position), first.cursor)

    @pytest.mark.parametrize("broken", ["", "0", "0:x", "other:token"])
    async def test_a_position_of_another_kind_is_lost(self, provider: Served, broken: str) -> None:
        with pytest.raises(PositionLostError):
            await source_of(provider).read_page(sweep(position=broken), None)

    async def test_a_position_of_another_account_is_lost(self, provider: Served) -> None:
        """No reason says so: it is refused as an invalid argument."""
        position = await position_of(source_of(provider))
        other = await provider.post("accounts", {"name": "second"})

        with pytest.raises(PositionLostError):
            await source_of(provider, token=other["access_token"]).read_page(
                sweep(position=position), None
            )

    async def test_a_mapping_that_loses_a_field_keeps_its_position(self, provider: Served) -> None:
        """Always the same is asked for: other fields would make the token useless."""
        _, ids = await fill(provider, 2)
        source = source_of(provider)
        position = await position_of(source)
        await provider.post("contacts:change", {"ids": ids[:1]})

        [page] = await pages_of(source, sweep(position=position, properties=("email",)))

        [change] = page.changes
        assert set(values(change)) == {"email"}

    async def test_a_change_that_sync_reads_do_not_show_yet_is_not_passed_over(
        self, provider: Served
    ) -> None:
        """Fault 19: writes take minutes to appear; what is late is told by a later sweep."""
        await provider.put("settings", {"propagation_s": 120})
        _, ids = await fill(provider, 3)
        await provider.put("clock", {"advance_s": 300})
        source = source_of(provider)
        position = await position_of(source)
        await provider.post("contacts:change", {"ids": ids[:1]})

        [early] = await pages_of(source, sweep(position=position))
        await provider.put("clock", {"advance_s": 300})
        [late] = await pages_of(source, sweep(position=early.position))

        assert list(early.changes) == []
        assert [change.id for change in late.changes] == ids[:1]


class TestPaging:
    async def test_who_is_edited_or_deleted_while_pages_are_read_is_not_lost(
        self, provider: Served
    ) -> None:
        """Fault 20: the next sweep tells of it, if this one does not."""
        _, ids = await fill(provider, 1_050)
        source = source_of(provider)
        first = await source.read_page(sweep(), None)
        await provider.post("contacts:change", {"ids": [ids[0], ids[1_010]]})
        await provider.post("contacts:delete", {"ids": [ids[1], ids[1_020]]})
        second = await source.read_page(sweep(), first.cursor)

        [after] = await pages_of(source, sweep(position=second.position))

        read = {change.id for page in (first, second) for change in page.changes}
        assert read >= set(ids) - {ids[1_020]}
        assert {change.id for change in after.changes} == {ids[0], ids[1_010]}
        assert set(after.gone) == {ids[1], ids[1_020]}

    @pytest.mark.parametrize("what", ["delete", "change"])
    async def test_a_listing_whose_rows_moved_says_that_it_is_doubtful(
        self, provider: Served, what: str
    ) -> None:
        """Proves S4: nobody is gone for having been passed over."""
        await provider.put("settings", {"rows_move": True})
        _, ids = await fill(provider, 1_050)
        source = source_of(provider)
        first = await source.read_page(sweep(), None)
        await provider.put("clock", {"advance_s": 2})
        await provider.post(f"contacts:{what}", {"ids": ids[:3]})
        second = await source.read_page(sweep(), first.cursor)

        read = {change.id for page in (first, second) for change in page.changes}
        assert set(ids) - read  # Some are on no page.
        assert second.is_doubtful

    async def test_a_quiet_listing_is_not_doubtful(self, provider: Served) -> None:
        await fill(provider, 1_050)

        pages = await pages_of(source_of(provider), sweep())

        assert [page.is_doubtful for page in pages] == [False, False]

    async def test_a_page_token_that_is_not_taken_begins_anew(self, provider: Served) -> None:
        with pytest.raises(UnavailableError):
            await source_of(provider).read_page(sweep(), Cursor("5:5:unknown"))

    async def test_members_of_everyone_are_paged(self, provider: Served) -> None:
        _, ids = await fill(provider, 1_050)

        assert sorted(await members_of(source_of(provider), "contacts", None)) == sorted(ids)


class TestFields:
    async def test_of_several_values_the_primary_or_first_one_is_read(
        self, provider: Served
    ) -> None:
        """Proves W5: one value of each field, by a rule that holds whatever their order."""
        profile = {"source": {"type": "PROFILE", "id": "1"}}
        person = {
            "names": [
                {"givenName": "Profile", "metadata": profile},
                {"givenName": "Ada", "familyName": "Lovelace"},
            ],
            "emailAddresses": [
                {"value": "first@example.com", "type": "home"},
                {"value": "primary@example.com", "type": "work", "metadata": {"primary": True}},
            ],
            "phoneNumbers": [
                {"value": "0151 1", "type": "home"},
                {"value": "+49 (151) 2", "type": "mobile"},
            ],
            "addresses": [{"type": "work", "city": "York", "streetAddress": "1 Main St"}],
            "birthdays": [{"date": {"month": 12, "day": 10}}],
            "organizations": [{"name": "Engines", "title": "Countess"}],
            "userDefined": [{"key": "Tier", "value": "gold"}, {"key": "Tier", "value": "tin"}],
        }
        await put(provider, person)
        names = (
            *("email", "home_email", "work_email", "first_name", "phone", "mobile_phone"),
            *("city", "work_street", "home_city", "birthday", "company", "job_title"),
            *("custom:Tier", "custom:Gone", "nothing"),
        )

        (change,) = await sweep_all(source_of(provider), sweep(properties=names))

        assert values(change) == {
            "email": "primary@example.com",
            "home_email": "first@example.com",
            "work_email": "primary@example.com",
            "first_name": "Ada",
            "phone": "0151 1",
            "mobile_phone": "+491512",
            "city": "York",
            "work_street": "1 Main St",
            "home_city": None,
            "birthday": None,  # Without a year it is no date.
            "company": "Engines",
            "job_title": "Countess",
            "custom:Tier": "gold",
            "custom:Gone": None,
            "nothing": None,
        }

    async def test_a_field_that_nobody_has_any_more_is_empty_and_stops_nothing(
        self, provider: Served
    ) -> None:
        """Fault 46: fields that people make up are not defined anywhere, so none can be missing."""
        tier = [{"key": "Tier", "value": "gold"}]
        await put(provider, {"email": "ada@example.com", "userDefined": tier})
        wanted = sweep(properties=("email", "custom:Tier"))
        (before,) = await sweep_all(source_of(provider), wanted)

        await put(provider, {"email": "ada@example.com", "userDefined": []})
        (after,) = await sweep_all(source_of(provider), wanted)

        assert values(before) == {"email": "ada@example.com", "custom:Tier": "gold"}
        assert values(after) == {"email": "ada@example.com", "custom:Tier": None}

    async def test_what_may_not_be_mapped_says_why(self, provider: Served) -> None:
        """Proves S6 and S7."""
        await put(provider, {"email": "a@example.com", "userDefined": [{"key": "Tier"}]})

        fields = await source_of(provider).describe_fields("contacts")

        refused = {each.name: each.not_mappable for each in fields if each.not_mappable}
        offered = {each.name for each in fields if not each.not_mappable}
        assert refused["gender"] == "category"
        assert refused["current_organization"] == "boolean"
        assert refused["updated_at"] == refused["photo"] == refused["age_range"] == "read_only"
        assert refused["memberships"] == "multiple_values"
        assert offered >= {"email", "phone", "home_city", "birthday", "custom:Tier"}

    async def test_a_contact_that_is_odd_does_not_spoil_the_others(self, provider: Served) -> None:
        list_id, _ = await fill(provider, 1)
        await put(provider, {"names": [{"givenName": 7}]}, list_=LIST)

        changes = await sweep_all(source_of(provider), sweep(list_id))

        assert sorted(bytes(change.properties)[:1] for change in changes) == [b"[", b"{"]


class TestLists:
    async def test_groups_that_are_no_lists_are_not_offered(self, provider: Served) -> None:
        """Proves W3."""
        await fill(provider, 3)

        lists = {each.name: each for each in await source_of(provider).find_lists("contacts")}

        assert set(lists) >= {"My Contacts", "Starred", LIST}
        assert not set(lists) & {"All", "Blocked", "Chat contacts"}
        assert (lists[LIST].size, lists["Starred"].size, lists["My Contacts"].size) == (3, 0, 3)

    async def test_more_groups_than_a_page_holds_are_all_found(
        self, provider: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(facts, "PAGE_MAX", 4)
        for number in range(5):
            await provider.post("lists", {"name": f"Group {number}"})

        assert len(await source_of(provider).find_lists("contacts")) == 5 + 5

    async def test_a_deleted_group_is_missing(self, provider: Served) -> None:
        """Fault 46."""
        list_id, _ = await fill(provider, 3)
        await provider.post(f"lists/{list_id}:delete", {})
        source = source_of(provider)

        with pytest.raises(MisconfiguredError) as caught:
            await source.find_list("contacts", list_id)
        with pytest.raises(MisconfiguredError) as read:
            await source.read_members("contacts", list_id, None)

        assert caught.value.what == read.value.what == "list_missing"

    async def test_a_group_that_is_shown_in_part_is_doubtful(self, provider: Served) -> None:
        list_id, ids = await fill(provider, 3)
        body = {
            "resourceName": f"contactGroups/{list_id}",
            "memberCount": 3,
            "memberResourceNames": [f"people/{each}" for each in ids[:2]],
        }
        await provider.fault({"kind": "status", "status": 200, "body": body})

        page = await source_of(provider).read_members("contacts", list_id, None)

        assert page.is_doubtful


class TestContacts:
    async def test_contacts_are_read_in_batches_by_their_ids(self, provider: Served) -> None:
        _, ids = await fill(provider, 250)
        await provider.post("calls:reset", {})

        changes = await source_of(provider).read_contacts(sweep(), [*ids, "c1", ids[0]])

        assert sorted(change.id for change in changes) == sorted(ids)
        assert await provider.calls() == {"GET /v1/people:batchGet": 3}

    async def test_one_of_a_batch_in_trouble_is_not_taken_for_gone(self, provider: Served) -> None:
        _, [one] = await fill(provider, 1)
        body = {"responses": [{"requestedResourceName": f"people/{one}", "status": {"code": 14}}]}
        await provider.fault({"kind": "status", "status": 200, "body": body})

        with pytest.raises(UnavailableError):
            await source_of(provider).read_contacts(sweep(), [one])

    async def test_a_contact_that_came_under_another_name_says_which_was_asked(
        self, provider: Served
    ) -> None:
        source = source_of(provider)
        _, [one] = await fill(provider, 1)
        person = {
            "resourceName": "people/c2",
            "metadata": {"sources": [{"type": "CONTACT", "updateTime": "2026-08-01T17:43:31Z"}]},
        }
        response = {"requestedResourceName": f"people/{one}", "person": person}
        await provider.fault({"kind": "status", "status": 200, "body": {"responses": [response]}})

        (change,) = await source.read_contacts(sweep(), [one])

        assert (change.id, list(change.merged_from)) == ("c2", [one])

    async def test_a_contact_without_a_time_cannot_be_read(self, provider: Served) -> None:
        body = {"connections": [{"resourceName": "people/c2", "metadata": {}}]}
        await provider.fault({"kind": "status", "status": 200, "body": body})

        with pytest.raises(UnavailableError):
            await source_of(provider).read_page(sweep(), None)


class TestRights:
    async def test_a_person_who_unticked_contacts_is_told_at_once(self, provider: Served) -> None:
        """Proves W2: whose account it is can be read without the right that is needed."""
        profile = "https://www.googleapis.com/auth/userinfo.email"
        token = (await provider.post("tokens", {"scopes": [profile]}))["access_token"]

        with pytest.raises(MisconfiguredError) as caught:
            await source_of(provider, token=token).check()

        assert caught.value.what == "scope_missing"

    async def test_an_api_that_is_switched_off_is_told(self, provider: Served) -> None:
        await provider.put("settings", {"is_api_enabled": False})

        with pytest.raises(MisconfiguredError) as caught:
            await source_of(provider).check()

        assert caught.value.what == "api_disabled"

    @pytest.mark.parametrize("step", ["check", "lists", "fields", "page", "changes", "contacts"])
    async def test_a_grant_that_is_taken_back_needs_a_person_at_each_step(
        self, provider: Served, step: str
    ) -> None:
        """Fault 45."""
        list_id, ids = await fill(provider, 3)
        position = await position_of(source_of(provider))
        token = (await provider.post("tokens", {}))["access_token"]
        source = source_of(provider, token=token)
        await source.check()
        await provider.post("app:uninstall", {})

        steps: dict[str, Callable[[], Awaitable[object]]] = {
            "check": source.check,
            "lists": lambda: source.find_lists("contacts"),
            "fields": lambda: source.describe_fields("contacts"),
            "page": lambda: source.read_page(sweep(list_id), None),
            "changes": lambda: source.read_page(sweep(position=position), None),
            "contacts": lambda: source.read_contacts(sweep(), ids),
        }
        with pytest.raises(NeedsReauthError):
            await steps[step]()


class TestLimits:
    async def test_calls_are_counted_where_google_counts_them(self, provider: Served) -> None:
        """Proves S10: groups are counted apart from contacts."""
        list_id, ids = await fill(provider, 3)
        gate = RecordingGate()
        source = source_of(provider, gate)

        await source.find_list("contacts", list_id)
        await source.read_members("contacts", list_id, None)
        await source.read_page(sweep(), None)
        await source.read_contacts(sweep(), ids)

        assert gate.entered == [facts.GROUP_READS] * 2 + [facts.READS] * 2

    async def test_a_minutes_limit_is_waited_out(self, provider: Served) -> None:
        """Proves S10: no header says when, so a whole window is waited."""
        await provider.put("limits", {"enabled": True})
        gate = RecordingGate()
        source = source_of(provider, gate)
        await provider.put("limits", {"critical_reads": {"limit": 1, "window_s": 60}})
        await source.count(sweep())

        with pytest.raises(RateLimitedError) as caught:
            await source.count(sweep())

        assert (caught.value.bucket, caught.value.retry_after_s) == (facts.READS, 60.0)
        assert gate.refusals == [(facts.READS, 60.0)]

    async def test_a_refusal_of_everything_is_told_as_it_is(self, provider: Served) -> None:
        await provider.fault({"kind": "status", "status": 400})

        with pytest.raises(RequestRefusedError):
            await source_of(provider).read_page(replace(sweep(), since_ms=0), None)
