"""What an org of the Salesforce sandbox is like, its limits, and its control interface."""

from typing import Any

import httpx
import pytest

from tests.sandbox.salesforce.served import START, Served, V


async def fields(served: Served, name: str = "Contact") -> dict[str, dict[str, Any]]:
    described = await served.get(f"/sobjects/{name}/describe")
    return {each["name"]: each for each in described["fields"]}


async def test_versions_are_told_to_anybody(served: Served) -> None:
    answer = await served.http.get("/services/data/", headers={"authorization": ""})

    assert answer.json()[-1] == {
        "label": "Summer '26",
        "url": "/services/data/v67.0",
        "version": "67.0",
    }
    assert "sforce-limit-info" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": "Bearer unknown"}, "INVALID_SESSION_ID"),
        ({"authorization": "Basic unknown"}, "INVALID_AUTH_HEADER"),
    ],
)
async def test_who_shows_no_session_is_refused(
    served: Served, headers: dict[str, str], code: str
) -> None:
    answer = await served.http.get(f"{V}/limits", headers=headers)

    assert (answer.status_code, answer.json()[0]["errorCode"]) == (401, code)


async def test_a_version_that_there_is_not_is_not_found(served: Served) -> None:
    answer = await served.http.get("/services/data/v99.0/limits")

    assert (answer.status_code, answer.json()[0]["errorCode"]) == (404, "NOT_FOUND")


async def test_fields_say_who_writes_them(served: Served) -> None:
    contact, lead = await fields(served), await fields(served, "Lead")

    required = [
        name
        for name, each in lead.items()
        if each["createable"] and not each["nillable"] and not each["defaultedOnCreate"]
    ]
    assert required == ["LastName", "Company"]
    assert contact["LastName"]["length"] == 80
    assert contact["Greeting__c"]["calculatedFormula"] == 'FirstName & " of " & Account.Name'
    assert (contact["Cases_Total__c"]["calculated"], contact["Cases_Total__c"]["calculatedFormula"]) == (True, None)  # fmt: skip  # noqa: E501  # a roll-up has no formula
    assert [each["value"] for each in contact["Segment__c"]["picklistValues"]] == [
        *("Gold", "Silver", "Bronze"),
    ]
    assert contact["Newsletter__c"]["type"] == "boolean"
    assert contact["MailingCity"]["compoundFieldName"] == "MailingAddress"
    assert contact["AccountId"]["referenceTo"] == ["Account"]
    assert not contact["Id"]["updateable"]


async def test_fields_come_and_go_and_are_hidden(served: Served) -> None:
    unchanged = {"If-Modified-Since": "Mon, 21 Sep 2026 15:00:00 GMT"}
    before = await served.http.get(f"{V}/sobjects/Contact/describe", headers=unchanged)
    served.time.now_s += 3_600
    await served.control("POST", "fields", {"name": "Size__c", "type": "double"})
    await served.put(LastName="X", Size__c=4.0)
    made = await served.rows("SELECT Size__c FROM Contact")
    after = await served.http.get(f"{V}/sobjects/Contact/describe", headers=unchanged)
    await served.control("POST", "fields:hide", {"name": "Size__c"})
    hidden = await fields(served)
    refused = await served.refusal("SELECT Size__c FROM Contact")
    await served.control("POST", "fields:show", {"name": "Size__c"})
    shown = await fields(served)
    await served.control("POST", "fields:delete", {"name": "Size__c"})

    assert (before.status_code, before.content, after.status_code) == (304, b"", 200)
    assert made == [{"Size__c": 4.0}]
    assert "Size__c" not in hidden
    assert refused[1] == "INVALID_FIELD"
    assert "Size__c" in shown
    assert "Size__c" not in await fields(served)


async def test_an_object_may_be_out_of_sight(served: Served) -> None:
    await served.settings(hidden_objects=["Case"])

    names = [each["name"] for each in (await served.get("/sobjects"))["sobjects"]]
    described = await served.http.get(f"{V}/sobjects/Case/describe")
    refused = await served.refusal("SELECT Id FROM Case")

    assert "Contact" in names
    assert "Case" not in names
    assert described.status_code == 404
    assert refused[1] == "INVALID_TYPE"


async def test_records_that_are_not_shared_are_absent_without_a_word(served: Served) -> None:
    ids = await served.fill(2)
    await served.control("POST", "contacts:hide", {"ids": ids[:1]})
    hidden = await served.ids("SELECT Id FROM Contact")
    direct = await served.http.get(f"{V}/sobjects/Contact/{ids[0]}")
    await served.control("POST", "contacts:show", {"ids": ids[:1]})

    assert hidden == ids[1:]
    assert direct.status_code == 404
    assert await served.ids("SELECT Id FROM Contact") == ids


async def test_the_days_calls_are_counted_over_24_hours(strict: Served) -> None:
    await strict.control("PUT", "limits", {"edition": "developer"})
    used = await strict.control("POST", "api:use", {"calls": 14_998})
    answer = await strict.http.get(f"{V}/limits")
    last = await strict.http.get(f"{V}/limits")
    over = await strict.http.get(f"{V}/limits")
    strict.time.now_s += 86_400
    next_day = await strict.http.get(f"{V}/limits")

    assert used == {"calls": 14_998}
    assert answer.headers["sforce-limit-info"] == "api-usage=14999/15000"
    assert answer.json()["DailyApiRequests"] == {"Max": 15_000, "Remaining": 1}
    assert (last.status_code, over.status_code, next_day.status_code) == (200, 403, 200)
    assert over.json() == [
        {"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}
    ]
    assert "retry-after" not in over.headers
    assert (await strict.control("GET", "calls"))["violations_by_bucket"] == {"daily": 1}


async def test_too_many_long_calls_refuse_the_next(strict: Served) -> None:
    await strict.settings(long_calls=24)
    enough = await strict.http.get(f"{V}/limits")
    await strict.settings(long_calls=25)
    over = await strict.http.get(f"{V}/limits")

    assert (enough.status_code, over.status_code) == (200, 403)
    assert over.json()[0]["message"] == "ConcurrentPerOrgLongTxn Limit exceeded."
    assert (await strict.control("GET", "calls"))["violations_by_bucket"] == {"concurrent": 1}


@pytest.mark.parametrize("code", ["API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED"])
async def test_an_org_without_the_api_refuses_every_call(served: Served, code: str) -> None:
    await served.settings(api_enabled=False, api_disabled_code=code)

    answer = await served.http.get(f"{V}/sobjects")

    assert answer.status_code == 403
    assert answer.json() == [
        {"message": "The REST API is not enabled for this Organization.", "errorCode": code}
    ]


async def test_limits_are_shown_to_who_may_view_the_setup(served: Served) -> None:
    await served.settings(views_setup=False)

    assert (await served.http.get(f"{V}/limits")).status_code == 403


async def test_a_merged_contact_names_the_one_that_survives(served: Served) -> None:
    kept, lost = await served.fill(2, list="Launch")
    await served.control("POST", "lists", {"name": "Later"})
    await served.control("POST", "lists/Later:join", {"ids": [lost]})
    case = await served.control("POST", "cases:attach", {"contact": lost})
    served.time.now_s += 60
    await served.control("POST", "contacts:merge", {"primary": kept, "other": lost})

    rows = await served.rows(
        f"SELECT Id, IsDeleted, MasterRecordId FROM Contact WHERE SystemModstamp > {START}",
        everything=True,
    )
    members = await served.rows("SELECT Campaign.Name, ContactId FROM CampaignMember")
    cases = await served.rows("SELECT Id, ContactId FROM Case")

    assert rows == [
        {"Id": kept, "IsDeleted": False, "MasterRecordId": None},
        {"Id": lost, "IsDeleted": True, "MasterRecordId": kept},
    ]
    assert [(each["Campaign"]["Name"], each["ContactId"]) for each in members] == [
        ("Launch", kept),
        ("Later", kept),
    ]
    assert cases == [{"Id": case["id"], "ContactId": kept}]


async def test_a_deleted_contact_leaves_its_campaigns_and_comes_back_to_them(
    served: Served,
) -> None:
    ids = await served.fill(2, list="Launch")
    await served.control("POST", "contacts:delete", {"ids": ids[:1]})
    without = await served.rows("SELECT ContactId FROM CampaignMember")
    await served.control("POST", "contacts:undelete", {"ids": ids[:1]})
    back = await served.rows("SELECT ContactId FROM CampaignMember")
    await served.control("POST", "contacts:delete", {"ids": ids[:1]})
    await served.control("POST", "contacts:erase", {})

    assert [each["ContactId"] for each in without] == ids[1:]
    assert [each["ContactId"] for each in back] == ids
    assert await served.ids("SELECT Id FROM Contact", everything=True) == ids[1:]


async def test_a_lead_is_converted_and_stays_a_member_as_a_contact(served: Served) -> None:
    (lead,) = await served.fill(1, object="Lead", list="Launch")
    told = await served.control("POST", "leads:convert", {"ids": [lead]})
    contact = told["contact_ids"][0]

    (row,) = await served.rows("SELECT IsConverted, ConvertedContactId, Email FROM Lead")
    (made,) = await served.rows("SELECT Id, Email, Account.Name FROM Contact")
    (member,) = await served.rows("SELECT LeadId, ContactId, Email FROM CampaignMember")
    (campaign,) = await served.rows("SELECT NumberOfConvertedLeads, NumberOfLeads FROM Campaign")

    assert (row["IsConverted"], row["ConvertedContactId"]) == (True, contact)
    assert (made["Id"], made["Email"]) == (contact, row["Email"])
    assert member == {"LeadId": lead, "ContactId": contact, "Email": row["Email"]}
    assert campaign == {"NumberOfConvertedLeads": 1, "NumberOfLeads": 1}


async def test_campaigns_are_joined_left_deleted_and_restored(served: Served) -> None:
    ids = await served.fill(2)
    made = await served.control("POST", "lists", {"name": "Launch"})
    await served.control("POST", "lists/Launch:join", {"ids": ids})
    again = await served.control("POST", "lists/Launch:join", {"ids": ids})
    await served.control("POST", "lists/Launch:leave", {"ids": ids[:1]})
    left = await served.rows(
        "SELECT ContactId, IsDeleted FROM CampaignMember ORDER BY Id", everything=True
    )
    await served.control("POST", f"lists/{made['list_id']}:delete")
    gone = await served.ids("SELECT Id FROM Campaign")
    await served.control("POST", f"lists/{made['list_id']}:restore")
    state = await served.control("GET", "state")

    assert again == {"ids": []}
    assert [(each["ContactId"], each["IsDeleted"]) for each in left] == [
        (ids[0], True),
        (ids[1], False),
    ]
    assert gone == []
    assert [(each["name"], each["members"]) for each in state["lists"]] == [("Launch", ids[1:])]


async def test_contacts_are_changed_as_told(served: Served) -> None:
    ids = await served.fill(4)
    served.time.now_s += 5
    await served.control("POST", "contacts:change", {"count": 2})
    await served.control("POST", "contacts:change", {"ids": ids[:1], "kind": "email"})

    rows = await served.rows("SELECT Id, Title, Email, LastModifiedBy.Name FROM Contact")
    assert len([each for each in rows if each["Title"] == "#1"]) == 2
    assert rows[0]["Email"].startswith("moved2.")
    assert {each["LastModifiedBy"]["Name"] for each in rows} == {"Cory Colleague"}


async def test_one_seed_gives_the_same_people_and_ids(served: Served) -> None:
    first = await served.fill(20, list="Launch", invalid_share=0.2)
    state = await served.control("GET", "state")
    await served.control("POST", "reset", {"seed": 1})
    again = await served.fill(20, list="Launch", invalid_share=0.2)

    assert first == again
    assert (await served.control("GET", "state"))["contacts"] == state["contacts"]
    assert len(state["invalid_ids"]) == 4


async def test_orgs_have_records_of_their_own(served: Served) -> None:
    ids = await served.fill(2)
    other = await served.control("POST", "accounts", {"name": "second", "edition": "developer"})
    headers = {"authorization": f"Bearer {other['access_token']}"}
    query = {"q": "SELECT Id FROM Contact"}

    theirs = (await served.http.get(f"{V}/query", params=query, headers=headers)).json()

    assert theirs["records"] == []
    assert await served.ids("SELECT Id FROM Contact") == ids
    assert other["account"] != served.state.default.id


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("contacts:fill", {"count": -1}),
        ("contacts:fill", {"count": 1, "object": "Case"}),
        ("contacts:change", {"count": 5}),
        ("contacts:change", {"count": 0, "kind": "other"}),
        ("contacts:change", {"count": 0, "properties": ["Birthdate"]}),
        ("contacts:delete", {"ids": ["unknown"]}),
        ("contacts:upsert", {"contacts": [{"properties": {"nothing": 1}}]}),
        ("contacts:upsert", {"contacts": [{"properties": {}, "id": "003000000000009AAA"}]}),
        ("contacts:undelete", {"ids": ["003000000000009AAA"]}),
        ("fields", {"name": "Size", "type": "double"}),
        ("fields", {"name": "Size__c", "formula": "1 + 1"}),
        ("fields:hide", {"name": "Size__c"}),
        ("validations", {"field": "Size__c", "value": "1", "message": "no"}),
        ("app:certificate", {"pem": "none"}),
        ("lists/unknown:join", {"ids": []}),
        ("accounts", {"edition": "gold"}),
        ("accounts", {"tier": "gold"}),
    ],
)
async def test_what_cannot_be_carried_out_is_told(
    served: Served, path: str, body: dict[str, Any]
) -> None:
    answer = await served.http.post(f"/_sandbox/{path}", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"kind": "throttle"}, 403, "REQUEST_LIMIT_EXCEEDED"),
        ({"kind": "status", "status": 401}, 401, "INVALID_SESSION_ID"),
        ({"kind": "status", "status": 503}, 503, "SERVER_UNAVAILABLE"),
        ({"kind": "status", "status": 500}, 500, "UNKNOWN_EXCEPTION"),
    ],
)
async def test_faults_are_told_in_salesforces_own_words(
    served: Served, fault: dict[str, Any], status: int, code: str
) -> None:
    await served.control("PUT", "faults", [fault])

    answer = await served.http.get(f"{V}/limits")

    assert (answer.status_code, answer.json()[0]["errorCode"]) == (status, code)
    assert (await served.control("GET", "calls"))["violations"] == 0


async def test_an_address_that_is_not_there_or_takes_other_methods(served: Served) -> None:
    missing: httpx.Response = await served.http.get(f"{V}/nothing")
    other = await served.http.post(f"{V}/limits")

    assert (missing.status_code, missing.json()[0]["errorCode"]) == (404, "NOT_FOUND")
    assert (other.status_code, other.json()[0]["errorCode"]) == (405, "METHOD_NOT_ALLOWED")
