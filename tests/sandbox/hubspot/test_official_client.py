"""HubSpot's official client, hubspot-api-client 12.0.0, unchanged, against the running sandbox.

It reads each answer into its own models, which refuse what HubSpot's contract does not allow, and
raises its own exceptions: what passes here is shaped as HubSpot's API is.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hubspot.crm.contacts import (
    ApiException,
    BatchInputSimplePublicObjectBatchInput,
    BatchInputSimplePublicObjectBatchInputForCreate,
    BatchInputSimplePublicObjectBatchInputUpsert,
    BatchInputSimplePublicObjectId,
    BatchReadInputSimplePublicObjectId,
    Filter,
    FilterGroup,
    PublicGdprDeleteInput,
    PublicMergeInput,
    PublicObjectSearchRequest,
    SimplePublicObjectBatchInput,
    SimplePublicObjectBatchInputForCreate,
    SimplePublicObjectBatchInputUpsert,
    SimplePublicObjectId,
    SimplePublicObjectInput,
    SimplePublicObjectInputForCreate,
)
from hubspot.crm.contacts.exceptions import (
    ForbiddenException,
    NotFoundException,
    ServiceException,
    UnauthorizedException,
)
from hubspot.crm.lists import ApiException as ListsApiException
from hubspot.crm.lists import (
    ListCreateRequest,
    ListFilterUpdateRequest,
    ListSearchRequest,
    MembershipChangeRequest,
)
from hubspot.crm.properties import ApiException as PropertiesApiException
from hubspot.crm.properties import (
    BatchInputPropertyCreate,
    BatchInputPropertyName,
    BatchReadInputPropertyName,
    OptionInput,
    PropertyCreate,
    PropertyGroupCreate,
    PropertyGroupUpdate,
    PropertyName,
    PropertyUpdate,
)
from hubspot.oauth import ApiException as OAuthApiException
from hubspot.utils.oauth import get_auth_url
from hubspot.utils.objects import fetch_all
from urllib3.util.retry import Retry

from tests.sandbox.hubspot.served import Served


def refusal(call: Callable[[], object], kind: type[ApiException] = ApiException) -> Any:
    """Return the exception that a call raises."""
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def created(client: Any, **properties: str) -> Any:
    return client.crm.contacts.basic_api.create(
        SimplePublicObjectInputForCreate(properties=properties)
    )


def search(client: Any, *filters: Filter, **rest: Any) -> Any:
    groups = [FilterGroup(filters=list(filters))] if filters else None
    request = PublicObjectSearchRequest(filter_groups=groups, **rest)
    return client.crm.contacts.search_api.do_search(request)


class TestContacts:
    def test_a_contact_is_created_read_changed_and_archived(self, served: Served) -> None:
        api = served.official().crm.contacts.basic_api
        made = api.create(
            SimplePublicObjectInputForCreate(
                properties={"email": "Ada@Example.org", "firstname": "Ada", "loyalty_points": "12"}
            )
        )

        read = api.get_by_id(made.id, properties=["email", "loyalty_points", "phone", "nonsense"])
        changed = api.update(
            made.id, SimplePublicObjectInput(properties={"phone": "+441", "loyalty_points": ""})
        )
        api.archive(made.id)

        assert read.properties["email"] == "ada@example.org"
        assert (read.properties["loyalty_points"], read.properties["phone"]) == ("12", None)
        assert "nonsense" not in read.properties
        assert (read.created_at.tzinfo, read.archived) == (read.updated_at.tzinfo, False)
        assert changed.properties["phone"] == "+441"
        assert "loyalty_points" not in changed.properties
        assert changed.updated_at >= made.updated_at
        assert refusal(lambda: api.get_by_id(made.id), NotFoundException).status == 404
        gone = api.get_by_id(made.id, archived=True)
        assert (gone.archived, gone.archived_at is not None) == (True, True)

    def test_a_contact_is_read_by_its_address_or_unique_property(self, served: Served) -> None:
        client = served.official()
        ada = created(client, email="ada@example.org", customer_number="K-1")
        api = client.crm.contacts.basic_api

        by_email = api.get_by_id("ADA@example.org", id_property="email")
        by_number = api.get_by_id("K-1", id_property="customer_number")

        assert by_email.id == by_number.id == ada.id

    def test_every_contact_is_paged_in_order_of_id(self, served: Served) -> None:
        ids = served.fill(231)
        client = served.official()

        everyone = fetch_all(client.crm.contacts.basic_api, properties=["email"])
        page = client.crm.contacts.basic_api.get_page(limit=100)

        assert [each.id for each in everyone] == ids
        assert page.paging.next.after == ids[100]
        assert page.results[0].properties.keys() == {
            "createdate",
            "email",
            "firstname",
            "hs_object_id",
            "lastmodifieddate",
            "lastname",
        }

    def test_archived_contacts_are_paged_apart(self, served: Served) -> None:
        ids = served.fill(5)
        served.control("POST", "contacts:delete", {"ids": ids[1:3]})
        api = served.official().crm.contacts.basic_api

        archived = fetch_all(api, archived=True)
        live = fetch_all(api)

        assert [each.id for each in archived] == ids[1:3]
        assert all(each.archived and each.archived_at for each in archived)
        assert [each.id for each in live] == [ids[0], *ids[3:]]

    def test_earlier_values_are_told_on_request(self, served: Served) -> None:
        client = served.official()
        ada = created(client, email="ada@example.org", city="London")
        api = client.crm.contacts.basic_api
        api.update(ada.id, SimplePublicObjectInput(properties={"city": "Leeds"}))

        read = api.get_by_id(ada.id, properties_with_history=["city"])

        assert [each.value for each in read.properties_with_history["city"]] == ["Leeds", "London"]

    def test_a_page_with_earlier_values_is_at_most_fifty_long(self, served: Served) -> None:
        served.fill(60)
        api = served.official().crm.contacts.basic_api

        everyone = fetch_all(api, properties_with_history=["city"])
        too_long = refusal(lambda: api.get_page(limit=51, properties_with_history=["city"]))

        assert len(everyone) == 60
        assert too_long.status == 400

    def test_a_merge_makes_a_third_contact_that_both_ids_find(self, served: Served) -> None:
        client = served.official()
        first = created(client, email="first@example.org", city="Leeds")
        second = created(client, email="second@example.org", city="York", company="Acme")
        api = client.crm.contacts.basic_api

        merged = api.merge(
            PublicMergeInput(primary_object_id=first.id, object_id_to_merge=second.id)
        )

        assert merged.id not in {first.id, second.id}
        wanted = ["city", "company", "email", "hs_additional_emails", "hs_merged_object_ids"]
        for old in (first.id, second.id):
            found = api.get_by_id(old, properties=wanted)
            assert found.id == merged.id
            assert [found.properties[name] for name in wanted] == [
                "Leeds",
                "Acme",
                "first@example.org",
                "second@example.org",
                f"{first.id};{second.id}",
            ]
        assert api.get_by_id("second@example.org", id_property="email").id == merged.id
        assert merged.updated_at >= second.updated_at
        assert [each.id for each in fetch_all(api)] == [merged.id]

    def test_a_privacy_deletion_leaves_nothing_and_blocks_an_unknown_address(
        self, served: Served
    ) -> None:
        client = served.official()
        ada = created(client, email="ada@example.org")
        api = client.crm.contacts.basic_api

        api.purge(PublicGdprDeleteInput(object_id=ada.id))
        api.purge(PublicGdprDeleteInput(object_id="bob@example.org", id_property="email"))

        assert fetch_all(api, archived=True) == []
        assert refusal(lambda: created(client, email="bob@example.org")).status == 400


class TestBatches:
    def test_a_batch_reads_what_is_there_and_names_what_is_not(self, served: Served) -> None:
        ids = served.fill(3)
        api = served.official().crm.contacts.batch_api

        def read(*wanted: str) -> Any:
            return api.read(
                BatchReadInputSimplePublicObjectId(
                    properties=["email"],
                    properties_with_history=[],
                    inputs=[SimplePublicObjectId(id=each) for each in wanted],
                )
            )

        whole, part = read(*ids), read(ids[0], "999999")

        assert (whole.status, [each.id for each in whole.results]) == ("COMPLETE", ids)
        assert [each.id for each in part.results] == [ids[0]]
        assert part.num_errors == 1
        assert part.errors[0].context == {"ids": ["999999"]}
        assert part.errors[0].category == "OBJECT_NOT_FOUND"

    def test_a_batch_is_read_by_address(self, served: Served) -> None:
        client = served.official()
        ada = created(client, email="ada@example.org")

        batch = client.crm.contacts.batch_api.read(
            BatchReadInputSimplePublicObjectId(
                id_property="email",
                properties=["email"],
                properties_with_history=[],
                inputs=[SimplePublicObjectId(id="ada@example.org")],
            )
        )

        assert [each.id for each in batch.results] == [ada.id]

    def test_a_batch_of_merged_away_ids_reads_the_survivor(self, served: Served) -> None:
        first, second = served.fill(2)
        merged = served.control("POST", "contacts:merge", {"primary": first, "other": second})

        batch = served.official().crm.contacts.batch_api.read(
            BatchReadInputSimplePublicObjectId(
                properties=[],
                properties_with_history=[],
                inputs=[SimplePublicObjectId(id=first)],
            )
        )

        assert [each.id for each in batch.results] == [merged["id"]]

    def test_a_batch_creates_all_or_none(self, served: Served) -> None:
        client = served.official()
        ada = created(client, email="ada@example.org")

        def create(*addresses: str, traced: bool = False) -> Any:
            inputs = [
                SimplePublicObjectBatchInputForCreate(
                    properties={"email": address},
                    object_write_trace_id=address if traced else None,
                )
                for address in addresses
            ]
            wish = BatchInputSimplePublicObjectBatchInputForCreate(inputs=inputs)
            return client.crm.contacts.batch_api.create(wish)

        refused = refusal(lambda: create("bob@example.org", "ada@example.org"))
        traced = create("bob@example.org", "ada@example.org", traced=True)

        assert refused.status == 409
        assert f"Existing ID: {ada.id}" in refused.body
        assert [each.properties["email"] for each in traced.results] == ["bob@example.org"]
        assert traced.errors[0].context == {"objectWriteTraceId": ["ada@example.org"]}
        assert len(create("cem@example.org", "dana@example.org").results) == 2

    def test_a_batch_updates_and_a_batch_upserts(self, served: Served) -> None:
        client = served.official()
        ada = created(client, email="ada@example.org")
        api = client.crm.contacts.batch_api

        updated = api.update(
            BatchInputSimplePublicObjectBatchInput(
                inputs=[SimplePublicObjectBatchInput(id=ada.id, properties={"city": "Leeds"})]
            )
        )
        upserted = api.upsert(
            BatchInputSimplePublicObjectBatchInputUpsert(
                inputs=[
                    SimplePublicObjectBatchInputUpsert(
                        id=address, id_property="email", properties={"city": "York"}
                    )
                    for address in ("ada@example.org", "bob@example.org")
                ]
            )
        )

        assert updated.results[0].properties["city"] == "Leeds"
        assert [each.new for each in upserted.results] == [False, True]
        assert [each.properties["city"] for each in upserted.results] == ["York", "York"]

    def test_a_batch_update_does_not_know_merged_away_ids(self, served: Served) -> None:
        first, second = served.fill(2)
        served.control("POST", "contacts:merge", {"primary": first, "other": second})
        change = SimplePublicObjectBatchInput(id=first, properties={"city": "Leeds"})

        batch = served.official().crm.contacts.batch_api.update(
            BatchInputSimplePublicObjectBatchInput(inputs=[change])
        )

        assert (batch.results, batch.num_errors) == ([], 1)

    def test_a_batch_archives_what_is_there(self, served: Served) -> None:
        ids = served.fill(3)
        client = served.official()

        client.crm.contacts.batch_api.archive(
            BatchInputSimplePublicObjectId(
                inputs=[SimplePublicObjectId(id=each) for each in (ids[0], ids[2], "999999")]
            )
        )

        assert [each.id for each in fetch_all(client.crm.contacts.basic_api)] == [ids[1]]

    def test_a_batch_of_more_than_a_hundred_is_refused(self, served: Served) -> None:
        inputs = [SimplePublicObjectId(id=str(number)) for number in range(101)]
        api = served.official().crm.contacts.batch_api

        refused = refusal(lambda: api.archive(BatchInputSimplePublicObjectId(inputs=inputs)))

        assert refused.status == 400


class TestSearch:
    def test_a_search_pages_by_offset(self, served: Served) -> None:
        ids = served.fill(25)
        client = served.official()

        first = search(client, limit=20, properties=["email"])
        second = search(client, limit=20, after=first.paging.next.after)

        assert [each.id for each in (*first.results, *second.results)] == ids
        assert (first.total, first.paging.next.after, second.paging) == (25, "20", None)

    def test_changes_since_a_moment_are_found_in_order_of_id(self, served: Served) -> None:
        ids = served.fill(30)
        since_ms = served.state.clock.now_ms() + 1
        served.state.clock.move(1)
        changed = served.control("POST", "contacts:change", {"count": 9})["ids"]

        found = search(
            served.official(),
            Filter(property_name="lastmodifieddate", operator="GTE", value=str(since_ms)),
            Filter(property_name="hs_object_id", operator="GT", value=changed[3]),
            sorts=["hs_object_id"],
            limit=200,
        )

        assert [each.id for each in found.results] == changed[4:]
        assert set(changed) < set(ids)
        assert found.total == 5

    def test_operators_mean_what_the_guide_says(self, served: Served) -> None:
        client = served.official()
        ada = created(client, email="ada@example.org", firstname="Ada", loyalty_points="10")
        bob = created(client, email="bob@example.net", firstname="Bob", loyalty_points="200")
        cem = created(client, email="cem@example.org", birthday="1990-05-01")
        people = {ada.id: "ada", bob.id: "bob", cem.id: "cem"}
        served.control("PUT", "limits", {"enabled": False})

        def who(name: str, operator: str, value: str | None = None, **rest: Any) -> list[str]:
            each = Filter(property_name=name, operator=operator, value=value, **rest)
            return sorted(people[found.id] for found in search(client, each).results)

        assert who("firstname", "EQ", "ADA") == ["ada"]
        assert who("firstname", "NEQ", "ada") == ["bob"]
        assert who("loyalty_points", "GT", "9") == ["ada", "bob"]
        assert who("loyalty_points", "LTE", "10") == ["ada"]
        assert who("loyalty_points", "LT", "10") == []
        assert who("loyalty_points", "BETWEEN", "100", high_value="200") == ["bob"]
        assert who("birthday", "EQ", "1990-05-01") == ["cem"]
        assert who("firstname", "IN", values=["ada", "Bob"]) == ["ada"]
        assert who("firstname", "NOT_IN", values=["ada"]) == ["bob", "cem"]
        assert who("firstname", "HAS_PROPERTY") == ["ada", "bob"]
        assert who("firstname", "NOT_HAS_PROPERTY") == ["cem"]
        assert who("email", "CONTAINS_TOKEN", "*@example.org") == ["ada", "cem"]
        assert who("email", "NOT_CONTAINS_TOKEN", "*@example.org") == ["bob"]
        assert who("hs_object_id", "IN", values=[ada.id, cem.id]) == ["ada", "cem"]
        assert who("hs_lastmodifieddate", "GT", "1") == []

    def test_a_search_is_sorted_as_asked(self, served: Served) -> None:
        client = served.official()
        for points in ("5", "100", "20"):
            created(client, email=f"p{points}@example.org", loyalty_points=points)
        created(client, email="none@example.org")

        found = search(client, sorts=["-loyalty_points"], properties=["loyalty_points"])

        ranked = [each.properties["loyalty_points"] for each in found.results]
        assert ranked == ["100", "20", "5", None]

    def test_a_word_finds_whom_it_is_in(self, served: Served) -> None:
        client = served.official()
        created(client, email="ada@example.org", company="Analytical Engines")
        created(client, email="bob@example.org")

        found = search(client, query="engines")

        assert [each.properties["email"] for each in found.results] == ["ada@example.org"]

    def test_what_is_over_a_documented_limit_is_refused(self, served: Served) -> None:
        client = served.official()
        served.control("PUT", "limits", {"enabled": False})
        one = Filter(property_name="email", operator="EQ", value="a")
        unknown = Filter(property_name="nonsense", operator="EQ", value="1")
        no_number = Filter(property_name="loyalty_points", operator="GT", value="x")
        no_values = Filter(property_name="email", operator="IN")

        def groups(*counts: int) -> Callable[[], object]:
            wish = [FilterGroup(filters=[one] * count) for count in counts]
            request = PublicObjectSearchRequest(filter_groups=wish)
            return lambda: client.crm.contacts.search_api.do_search(request)

        created(client, email="ada@example.org", loyalty_points="1")
        refused = [
            refusal(groups(1, 1, 1, 1, 1, 1)),
            refusal(groups(7)),
            refusal(groups(6, 6, 6, 1)),
            refusal(lambda: search(client, limit=201)),
            refusal(lambda: search(client, limit=1, after="10000")),
            refusal(lambda: search(client, properties=["x" * 3_000])),
            refusal(lambda: search(client, sorts=["email", "city"])),
            refusal(lambda: search(client, unknown)),
            refusal(lambda: search(client, no_number)),
            refusal(lambda: search(client, no_values)),
        ]

        assert [each.status for each in refused] == [400] * len(refused)
        assert "too many filterGroups (count: 6, max allowed: 5)" in refused[0].body
        assert search(client, limit=200, after="9800").results == []

    def test_search_sees_a_change_only_after_the_delay(self, served: Served) -> None:
        client = served.official()
        ada = created(client, email="ada@example.org", city="Leeds")
        served.control("PUT", "settings", {"index_delay_s": 30})
        in_york = Filter(property_name="city", operator="EQ", value="York")
        api = client.crm.contacts.basic_api
        api.update(ada.id, SimplePublicObjectInput(properties={"city": "York"}))

        before = search(client, in_york).total, search(client, properties=["city"]).results[0]
        served.state.clock.move(31)
        after = search(client, in_york)

        assert api.get_by_id(ada.id, properties=["city"]).properties["city"] == "York"
        assert (before[0], before[1].properties["city"]) == (0, "Leeds")
        assert [each.id for each in after.results] == [ada.id]

    def test_many_contacts_change_on_one_millisecond(self, served: Served) -> None:
        served.fill(40)
        wish = {"count": 30, "same_timestamp": True}
        changed = served.control("POST", "contacts:change", wish)["ids"]
        client = served.official()
        moment = client.crm.contacts.basic_api.get_by_id(changed[0]).updated_at
        at_ms = str(round(moment.timestamp() * 1000))

        found = search(
            client,
            Filter(property_name="lastmodifieddate", operator="EQ", value=at_ms),
            limit=100,
        )

        assert {*changed} <= {each.id for each in found.results}
        assert {each.updated_at for each in found.results} == {moment}


class TestLists:
    def test_lists_are_searched_and_described(self, served: Served) -> None:
        served.fill(7, list="Newsletter")
        served.control("POST", "lists", {"name": "Active", "processing_type": "DYNAMIC"})
        api = served.official().crm.lists.lists_api

        def hits(**wish: Any) -> list[str]:
            defaults: dict[str, Any] = {"offset": 0, "additional_properties": []}
            found = api.do_search(ListSearchRequest(**{**defaults, **wish}))
            return [each.name for each in found.lists]

        found = api.do_search(
            ListSearchRequest(query="news", offset=0, additional_properties=["hs_list_size"])
        )

        assert (found.total, found.has_more, found.offset) == (1, False, 1)
        facts = found.lists[0].additional_properties
        assert facts["hs_list_size"] == "7"
        assert int(facts["hs_last_record_added_at"]) <= served.state.clock.now_ms()
        assert "hs_last_record_removed_at" not in facts
        assert hits(processing_types=["DYNAMIC"]) == ["Active"]
        assert hits(count=1) == ["Newsletter"]
        assert hits(count=1, offset=1) == ["Active"]
        assert hits(list_ids=["2"]) == ["Active"]
        assert api.get_by_name("NEWSLETTER", "0-1").list.size == 7

    def test_members_are_paged_in_both_orders(self, served: Served) -> None:
        ids = served.fill(12)
        client = served.official()
        served.control("POST", "lists", {"name": "Late first"})
        for member in reversed(ids):
            served.control("POST", "lists/1:join", {"ids": [member]})
            served.state.clock.move(1)
        api = client.crm.lists.memberships_api

        def everyone(page_of: Callable[..., Any]) -> list[str]:
            found, after = [], None
            while True:
                page = page_of("1", limit=5, after=after)
                found += [each.record_id for each in page.results]
                if page.paging is None or page.paging.next is None:
                    return found
                after = page.paging.next.after

        assert everyone(api.get_page) == ids
        assert everyone(api.get_page_ordered_by_added_to_list_date) == ids[::-1]
        assert api.get_page("1", limit=5).total == 12

    def test_members_are_paged_backwards_with_before_alone(self, served: Served) -> None:
        ids = served.fill(9, list="All")
        api = served.official().crm.lists.memberships_api
        first = api.get_page("1", limit=4)
        second = api.get_page("1", limit=4, after=first.paging.next.after)

        back = api.get_page("1", limit=3, before=second.paging.prev.before)

        assert [each.record_id for each in back.results] == [ids[3], ids[2], ids[1]]

    def test_a_manual_list_takes_members_and_tells_which(self, served: Served) -> None:
        ids = served.fill(3)
        client = served.official()
        made = client.crm.lists.lists_api.create(
            ListCreateRequest(name="By hand", object_type_id="0-1", processing_type="MANUAL")
        ).list
        api = client.crm.lists.memberships_api

        added = api.add(made.list_id, [*ids[:2], "999999"])
        swapped = api.add_and_remove(
            made.list_id,
            MembershipChangeRequest(record_ids_to_add=[ids[2]], record_ids_to_remove=[ids[0]]),
        )
        removed = api.remove(made.list_id, [ids[1]])

        assert (added.records_ids_added, added.record_ids_missing) == (ids[:2], ["999999"])
        assert swapped.records_ids_added == [ids[2]]
        assert swapped.record_ids_removed == [ids[0]]
        assert removed.record_ids_removed == [ids[1]]
        left = [each.record_id for each in api.get_page(made.list_id).results]
        assert left == [ids[2]]
        facts = served.control("GET", "state")["lists"][0]
        assert facts["members"] == [ids[2]]

    def test_a_contact_tells_its_lists_and_when_it_came_back(self, served: Served) -> None:
        (member,) = served.fill(1, list="Club")
        api = served.official().crm.lists.memberships_api
        served.state.clock.move(60)
        api.remove("1", [member])
        served.state.clock.move(60)
        api.add("1", [member])

        lists = api.get_lists("0-1", member).results

        assert [each.list_id for each in lists] == ["1"]
        away = lists[0].last_added_timestamp - lists[0].first_added_timestamp
        assert away.total_seconds() == pytest.approx(120, abs=5)

    def test_a_dynamic_list_takes_no_members_by_hand(self, served: Served) -> None:
        (member,) = served.fill(1)
        served.control("POST", "lists", {"name": "Active", "processing_type": "DYNAMIC"})
        api = served.official().crm.lists.memberships_api

        refused = refusal(lambda: api.add("1", [member]), ListsApiException)
        served.control("POST", "lists/Active:join", {"ids": [member]})

        assert refused.status == 400
        assert api.get_page("1").total == 1

    def test_a_deleted_list_is_still_answered_and_may_be_restored(self, served: Served) -> None:
        served.fill(2, list="Club")
        api = served.official().crm.lists.lists_api
        api.remove("1")

        deleted = api.get_by_id("1").list
        search_total = api.do_search(ListSearchRequest(offset=0, additional_properties=[])).total
        by_name = refusal(lambda: api.get_by_name("Club", "0-1"), ListsApiException)
        several = api.get_all(list_ids=["1"]).lists
        api.restore("1")

        assert deleted.deleted_at is not None
        assert (search_total, by_name.status, several) == (0, 404, [])
        assert api.get_by_id("1").list.deleted_at is None
        assert [each.list_id for each in api.get_all(list_ids=["1"]).lists] == ["1"]

    def test_only_a_dynamic_list_has_filters(self, served: Served) -> None:
        served.control("POST", "lists", {"name": "By hand"})
        served.control("POST", "lists", {"name": "Active", "processing_type": "DYNAMIC"})
        branch = {"filterBranchType": "OR", "filterBranches": [], "filters": []}
        wish = ListFilterUpdateRequest(filter_branch=branch)
        api = served.official().crm.lists.lists_api

        refused = refusal(lambda: api.update_list_filters("1", wish), ListsApiException)
        changed = api.update_list_filters("2", wish).updated_list

        assert (refused.status, changed.list_version) == (400, 2)
        answer = served.http.get("/crm/v3/lists/2", params={"includeFilters": "true"})
        assert answer.json()["list"]["filterBranch"] == branch

    def test_a_list_is_renamed_and_names_are_taken_once(self, served: Served) -> None:
        served.control("POST", "lists", {"name": "One"})
        served.control("POST", "lists", {"name": "Two"})
        api = served.official().crm.lists.lists_api

        renamed = api.update_name("1", list_name="Three").updated_list
        taken = refusal(lambda: api.update_name("1", list_name="two"), ListsApiException)

        assert (renamed.name, renamed.list_version, taken.status) == ("Three", 2, 400)

    def test_lists_are_copied_and_emptied_at_once(self, served: Served) -> None:
        ids = served.fill(3, list="From")
        served.control("POST", "lists", {"name": "Into"})
        api = served.official().crm.lists.memberships_api

        api.add_all_from_list("2", "1")
        api.remove_all("1")

        assert [each.record_id for each in api.get_page("2").results] == ids
        assert api.get_page("1").results == []

    def test_a_deleted_contact_is_on_no_list(self, served: Served) -> None:
        ids = served.fill(3, list="All")

        served.control("POST", "contacts:delete", {"ids": [ids[1]]})

        page = served.official().crm.lists.memberships_api.get_page("1")
        assert [each.record_id for each in page.results] == [ids[0], ids[2]]

    def test_a_merged_contact_takes_over_the_lists(self, served: Served) -> None:
        first, second = served.fill(2, list="All")
        merged = served.control("POST", "contacts:merge", {"primary": first, "other": second})

        page = served.official().crm.lists.memberships_api.get_page("1")

        assert [each.record_id for each in page.results] == [merged["id"]]


class TestProperties:
    def test_every_kind_of_property_is_defined(self, served: Served) -> None:
        results = served.official().crm.properties.core_api.get_all("contacts").results

        by_name = {each.name: each for each in results}
        assert {each.type for each in results} == {
            "bool",
            "date",
            "datetime",
            "enumeration",
            "number",
            "string",
        }
        assert by_name["phone"].field_type == "phonenumber"
        assert by_name["interests"].field_type == "checkbox"
        assert by_name["customer_number"].has_unique_value
        assert by_name["num_notes"].calculated
        assert by_name["hs_searchable_calculated_phone_number"].hidden
        assert by_name["hubspot_owner_id"].external_options
        assert by_name["hs_object_id"].modification_metadata.read_only_value
        assert not by_name["loyalty_level"].calculated
        assert by_name["loyalty_level"].field_type == "calculation_equation"
        assert by_name["loyalty_level"].calculation_formula

    def test_a_property_is_created_changed_and_archived(self, served: Served) -> None:
        client = served.official()
        api = client.crm.properties.core_api
        made = api.create(
            "contacts",
            PropertyCreate(
                name="size",
                label="Size",
                type="enumeration",
                field_type="select",
                group_name="contactinformation",
                options=[OptionInput(label="S", value="s", hidden=False, display_order=0)],
            ),
        )
        ada = created(client, email="ada@example.org", size="s")

        changed = api.update("contacts", "size", PropertyUpdate(label="Shirt size"))
        api.archive("contacts", "size")

        assert (made.name, made.hubspot_defined, changed.label) == ("size", False, "Shirt size")
        assert ada.properties["size"] == "s"
        gone = refusal(lambda: api.get_by_name("contacts", "size"), PropertiesApiException)
        assert gone.status == 404
        assert [each.name for each in api.get_all("contacts", archived=True).results] == ["size"]
        read = client.crm.contacts.basic_api.get_by_id(ada.id, properties=["size"])
        assert "size" not in read.properties

    def test_properties_are_created_and_archived_in_batches(self, served: Served) -> None:
        api = served.official().crm.properties.batch_api

        def wish(name: str) -> PropertyCreate:
            return PropertyCreate(
                name=name, label=name, type="number", field_type="number", group_name="sandbox"
            )

        made = api.create(
            "contacts", BatchInputPropertyCreate(inputs=[wish("one"), wish("email"), wish("two")])
        )
        archived = BatchInputPropertyName(inputs=[PropertyName(name=n) for n in ("one", "none")])
        api.archive("contacts", archived)

        assert [each.name for each in made.results] == ["one", "two"]
        assert made.num_errors == 1
        assert made.errors[0].context == {"name": ["email"]}
        live = served.state.default.properties.live
        assert (live("one"), live("two") is not None) == (None, True)

    def test_hubspots_own_properties_stay_as_they_are(self, served: Served) -> None:
        api = served.official().crm.properties.core_api
        change = PropertyUpdate(label="E-mail")

        refused = [
            refusal(lambda: api.update("contacts", "email", change), PropertiesApiException),
            refusal(lambda: api.archive("contacts", "email"), PropertiesApiException),
            refusal(lambda: api.update("contacts", "nonsense", change), PropertiesApiException),
            refusal(lambda: api.archive("contacts", "nonsense"), PropertiesApiException),
        ]

        assert [each.status for each in refused] == [400, 400, 404, 404]

    def test_a_tenth_unique_property_is_the_last(self, served: Served) -> None:
        api = served.official().crm.properties.core_api

        def create(number: int) -> None:
            wish = {"type": "string", "field_type": "text", "group_name": "sandbox"}
            name = f"key_{number}"
            api.create(
                "contacts", PropertyCreate(name=name, label=name, has_unique_value=True, **wish)
            )

        for number in range(9):  # The tenth is there from the start.
            create(number)

        assert refusal(lambda: create(10), PropertiesApiException).status == 400

    def test_a_group_is_archived_when_it_is_empty(self, served: Served) -> None:
        api = served.official().crm.properties.groups_api
        api.create("contacts", PropertyGroupCreate(name="shop", label="Shop", display_order=-1))

        renamed = api.update("contacts", "shop", PropertyGroupUpdate(label="Our shop"))
        api.archive("contacts", "shop")

        assert renamed.label == "Our shop"
        gone = refusal(lambda: api.get_by_name("contacts", "shop"), PropertiesApiException)
        full = refusal(lambda: api.archive("contacts", "sandbox"), PropertiesApiException)
        assert (gone.status, full.status) == (404, 400)

    def test_a_definition_that_does_not_fit_is_refused(self, served: Served) -> None:
        api = served.official().crm.properties.core_api

        def create(**wish: Any) -> Any:
            usual = {
                "name": "fine",
                "label": "Fine",
                "type": "string",
                "field_type": "text",
                "group_name": "contactinformation",
            }
            wished = PropertyCreate(**{**usual, **wish})
            return refusal(lambda: api.create("contacts", wished), PropertiesApiException).status

        assert create(type="number") == 400
        assert create(group_name="nowhere") == 400
        assert create(name="Not Fine") == 400
        assert create(name="email") == 409

    def test_properties_are_read_in_a_batch_and_by_group(self, served: Served) -> None:
        client = served.official()
        groups = client.crm.properties.groups_api
        groups.create("contacts", PropertyGroupCreate(name="shop", label="Shop", display_order=-1))

        batch = client.crm.properties.batch_api.read(
            "contacts",
            BatchReadInputPropertyName(
                archived=False, inputs=[PropertyName(name="email"), PropertyName(name="nonsense")]
            ),
        )

        assert [each.name for each in batch.results] == ["email"]
        assert batch.num_errors == 1
        assert groups.get_by_name("contacts", "shop").label == "Shop"
        assert "shop" in [each.name for each in groups.get_all("contacts").results]

    @pytest.mark.parametrize(
        ("name", "value", "code"),
        [
            ("nonsense", "1", "PROPERTY_DOESNT_EXIST"),
            ("hs_object_id", "1", "READ_ONLY_VALUE"),
            ("num_notes", "1", "READ_ONLY_VALUE"),
            ("loyalty_level", "1", "READ_ONLY_VALUE"),
            ("email", "ada@", "INVALID_EMAIL"),
            ("lifecyclestage", "Lead", "INVALID_OPTION"),
            ("interests", "music;chess", "INVALID_OPTION"),
            ("newsletter_optin", "maybe", "INVALID_OPTION"),
            ("loyalty_points", "1,000", "INVALID_INTEGER"),
            ("loyalty_points", "nan", "INVALID_INTEGER"),
            ("company", "x" * 65_537, "VALUE_TOO_LONG"),
            ("birthday", "1990-05-01T10:00:00Z", "INVALID_DATE"),
            ("last_visit", "yesterday", "INVALID_DATE"),
        ],
    )
    def test_a_value_that_does_not_fit_is_refused_with_its_code(
        self, served: Served, name: str, value: str, code: str
    ) -> None:
        client = served.official()

        refused = refusal(lambda: created(client, firstname="Ada", **{name: value}))

        assert refused.status == 400
        assert "Property values were not valid: [" in refused.body
        assert f'"code":"{code}"' in refused.body

    def test_values_come_back_as_text_of_one_form(self, served: Served) -> None:
        client = served.official()
        ada = created(
            client,
            email="ada@example.org",
            birthday="641520000000",
            last_visit="2026-01-02T03:04:05+01:00",
            newsletter_optin="TRUE",
            loyalty_points="250.0",
            interests="music;food",
        )
        api = client.crm.contacts.basic_api

        api.update(ada.id, SimplePublicObjectInput(properties={"interests": ";travel"}))

        names = ["birthday", "last_visit", "newsletter_optin", "loyalty_points", "interests"]
        read = api.get_by_id(ada.id, properties=[*names, "loyalty_level"]).properties
        assert [read[name] for name in names] == [
            "1990-05-01",
            "2026-01-02T02:04:05.000Z",
            "true",
            "250",
            "music;food;travel",
        ]
        assert read["loyalty_level"] == "2"

    def test_a_lifecycle_stage_goes_forward_only_unless_cleared(self, served: Served) -> None:
        client = served.official()
        ada = created(client, email="ada@example.org", lifecyclestage="customer")
        api = client.crm.contacts.basic_api

        def stage(value: str) -> str:
            change = SimplePublicObjectInput(properties={"lifecyclestage": value})
            told: str = api.update(ada.id, change).properties.get("lifecyclestage", "")
            return told

        assert [stage("lead"), stage(""), stage("lead")] == ["customer", "", "lead"]


class TestOAuth:
    REDIRECT = "http://127.0.0.1:1/callback"

    def code(self, served: Served, **wish: str) -> str:
        """Go through the page as a person who agrees; return the code that comes back."""
        asked = get_auth_url(
            client_id="sandbox-client",
            redirect_uri=self.REDIRECT,
            scope=("crm.objects.contacts.read", "crm.lists.read"),
            state="s1",
        )
        query = {key: values[0] for key, values in parse_qs(urlsplit(asked).query).items()}
        page = httpx.get(f"{served.url}/oauth/authorize", params=query)
        assert (page.status_code, "<form" in page.text) == (200, True)
        answer = httpx.post(
            f"{served.url}/oauth/authorize", data={**query, **wish, "decision": "approve"}
        )
        back = parse_qs(urlsplit(answer.headers["location"]).query)
        assert (answer.status_code, back["state"]) == (302, ["s1"])
        return back["code"][0]

    def exchange(self, served: Served, **wish: str) -> Any:
        usual = {
            "grant_type": "authorization_code",
            "redirect_uri": self.REDIRECT,
            "client_id": "sandbox-client",
            "client_secret": "sandbox-secret",
        }
        return served.official("none").oauth.tokens_api.create(**{**usual, **wish})

    def test_a_code_becomes_tokens_that_open_what_was_granted(self, served: Served) -> None:
        tokens = self.exchange(served, code=self.code(served))

        client = served.official(tokens.access_token)
        facts = client.oauth.access_tokens_api.get(tokens.access_token)
        grant = client.oauth.refresh_tokens_api.get(tokens.refresh_token)
        assert (tokens.token_type, tokens.expires_in) == ("bearer", 1800)
        assert (facts.hub_id, grant.client_id) == (1000001, "sandbox-client")
        assert set(facts.scopes) == {"oauth", "crm.objects.contacts.read", "crm.lists.read"}
        assert client.crm.contacts.basic_api.get_page().results == []
        forbidden = refusal(lambda: created(client, email="a@example.org"), ForbiddenException)
        assert '"requiredGranularScopes":["crm.objects.contacts.write"]' in forbidden.body
        assert '"category":"MISSING_SCOPES"' in forbidden.body

    def test_a_code_is_good_for_one_exchange(self, served: Served) -> None:
        code = self.code(served)
        self.exchange(served, code=code)

        again = refusal(lambda: self.exchange(served, code=code), OAuthApiException)

        assert (again.status, '"status":"BAD_AUTH_CODE"' in again.body) == (400, True)

    def test_a_refresh_gives_another_access_token_and_the_same_refresh_token(
        self, served: Served
    ) -> None:
        first = self.exchange(served, code=self.code(served))

        second = self.exchange(
            served, grant_type="refresh_token", refresh_token=first.refresh_token
        )

        assert second.refresh_token == first.refresh_token
        assert second.access_token != first.access_token
        for token in (first, second):  # The older one lives on until it expires.
            served.official(token.access_token).crm.contacts.basic_api.get_page()

    def test_an_access_token_ends_with_its_lifetime(self, served: Served) -> None:
        served.control("PUT", "settings", {"token_ttl_s": 60})
        tokens = self.exchange(served, code=self.code(served))
        api = served.official(tokens.access_token).crm.contacts.basic_api
        api.get_page()
        served.state.clock.move(75)

        expired = refusal(api.get_page, UnauthorizedException)

        assert tokens.expires_in == 60
        assert "expired 15 second(s) ago" in expired.body
        assert '"category":"EXPIRED_AUTHENTICATION"' in expired.body

    def test_an_unknown_token_is_told_apart_from_an_expired_one(self, served: Served) -> None:
        api = served.official("nonsense").crm.contacts.basic_api

        unknown = refusal(api.get_page, UnauthorizedException)

        assert '"category":"INVALID_AUTHENTICATION"' in unknown.body

    def test_a_forgotten_refresh_token_gives_no_more_but_spares_the_access_token(
        self, served: Served
    ) -> None:
        tokens = self.exchange(served, code=self.code(served))
        client = served.official(tokens.access_token)
        client.oauth.refresh_tokens_api.archive(tokens.refresh_token)

        refused = refusal(
            lambda: self.exchange(
                served, grant_type="refresh_token", refresh_token=tokens.refresh_token
            ),
            OAuthApiException,
        )

        assert refused.status == 400
        assert '"status":"BAD_REFRESH_TOKEN"' in refused.body
        assert client.crm.contacts.basic_api.get_page().results == []


class TestLimits:
    def test_calls_over_the_limit_are_refused_and_counted(self, served: Served) -> None:
        served.control("PUT", "limits", {"ten_secondly": {"limit": 3, "window_s": 10}})
        api = served.official(served.token()).crm.contacts.basic_api

        headers = [api.get_page_with_http_info()[2] for _ in range(3)]
        refused = refusal(api.get_page)

        remaining = [each["X-HubSpot-RateLimit-Remaining"] for each in headers]
        assert remaining == ["2", "1", "0"]
        assert headers[0]["X-HubSpot-RateLimit-Max"] == "3"
        assert "X-HubSpot-RateLimit-Daily" not in headers[0]
        assert refused.status == 429
        assert '"policyName":"TEN_SECONDLY_ROLLING"' in refused.body
        assert "retry-after" not in {name.lower() for name in refused.headers}
        calls = served.control("GET", "calls")
        assert (calls["violations"], calls["violations_by_bucket"]) == (1, {"ten_secondly": 1})

    def test_search_has_five_a_second_and_no_headers(self, served: Served) -> None:
        client = served.official()
        api = client.crm.contacts.search_api
        now_s = served.state.clock.now_s()
        served.state.clock._read_s = lambda: now_s

        headers = [api.do_search_with_http_info(PublicObjectSearchRequest())[2] for _ in range(5)]
        refused = refusal(lambda: search(client))
        served.state.clock.move(1)

        assert not any("ratelimit" in name.lower() for each in headers for name in each)
        assert refused.status == 429
        assert "secondly limit" in refused.body
        assert not any("ratelimit" in name.lower() for name in refused.headers)
        assert search(client).total == 0

    def test_a_private_token_has_a_daily_limit_until_midnight_at_the_portal(
        self, served: Served
    ) -> None:
        noon = datetime(2026, 7, 1, 16, 0, tzinfo=UTC).timestamp()  # Noon in New York.
        served.state.clock._read_s = lambda: noon
        served.control("PUT", "limits", {"tier": "starter"})
        client = served.official()
        *_, headers = client.crm.contacts.basic_api.get_page_with_http_info()
        (daily,) = served.state.default.limits._buckets["daily"]
        daily.limit = 1

        refused = refusal(client.crm.contacts.basic_api.get_page)
        served.state.clock.move(12 * 3600 - 1)
        still = refusal(client.crm.contacts.basic_api.get_page)
        served.state.clock.move(1)

        assert headers["X-HubSpot-RateLimit-Max"] == "100"
        assert headers["X-HubSpot-RateLimit-Daily"] == "250000"
        assert headers["X-HubSpot-RateLimit-Daily-Remaining"] == "249999"
        assert '"policyName":"DAILY"' in refused.body
        assert still.status == 429
        assert client.crm.contacts.basic_api.get_page().results == []

    def test_without_limits_nothing_is_refused_or_counted(self, served: Served) -> None:
        served.control("PUT", "limits", {"enabled": False})
        client = served.official()

        totals = [search(client).total for _ in range(12)]

        assert totals == [0] * 12
        assert served.control("GET", "calls")["violations"] == 0


class TestFaults:
    @pytest.mark.parametrize("status", [423, 477, 500, 502, 503])
    def test_a_status_reaches_the_client_as_its_exception(
        self, served: Served, status: int
    ) -> None:
        fault = {"match": {"method": "GET"}, "kind": "status", "status": status, "times": 1}
        served.control("PUT", "faults", [fault])
        api = served.official().crm.contacts.basic_api

        refused = refusal(api.get_page, ServiceException if status >= 500 else ApiException)

        assert refused.status == status
        assert api.get_page().results == []

    def test_the_client_gets_over_a_cut_connection_by_its_own_retries(self, served: Served) -> None:
        served.control("PUT", "faults", [{"kind": "cut", "times": 2}])
        client = served.official()
        client.config["retry"] = Retry(total=3, backoff_factor=0)

        assert client.crm.contacts.basic_api.get_page().results == []
        assert served.control("GET", "calls")["total"] == 3
