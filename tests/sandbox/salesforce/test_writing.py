"""Writes to the Salesforce sandbox: single records, collections, what is kept, what is refused."""

from random import Random
from typing import Any

import httpx
import pytest

from sandbox.salesforce.app import create_app
from sandbox.salesforce.state import State
from tests.sandbox.salesforce.served import AUTHORIZED, Served, V

CONTACT = {"attributes": {"type": "Contact"}}
COLLECTION = f"{V}/composite/sobjects"


async def created(served: Served, kind: str = "Contact", **body: Any) -> str:
    answer = await served.http.post(f"{V}/sobjects/{kind}/", json=body)
    assert answer.status_code == 201, answer.text
    record_id: str = answer.json()["id"]
    return record_id


async def read(served: Served, record_id: str) -> dict[str, Any]:
    told: dict[str, Any] = await served.get(f"/sobjects/Contact/{record_id}")
    return told


async def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    (problem,) = answer.json()
    return answer.status_code, problem["errorCode"], problem["message"]


async def collection(served: Served, method: str, *records: Any, **more: Any) -> list[Any]:
    records = tuple({**CONTACT, **each} for each in records)
    body = {"records": records, **more}
    answer = await served.http.request(method, COLLECTION, json=body)
    assert answer.status_code == 200, answer.text
    outcomes: list[Any] = answer.json()
    return outcomes


def codes(outcomes: list[Any]) -> list[str]:
    return ["" if each["success"] else each["errors"][0]["statusCode"] for each in outcomes]


async def test_a_record_is_made_changed_and_deleted(served: Served) -> None:
    ada = await created(served, LastName="Lovelace", Email="Ada@Example.COM", Phone=" +44 (0)20 ")
    made = await read(served, ada)
    served.time.now_s += 60
    changed = await served.http.patch(f"{V}/sobjects/Contact/{ada}", json={"Phone": None})
    after = await read(served, ada)
    gone = await served.http.delete(f"{V}/sobjects/Contact/{ada}")
    again = await served.http.delete(f"{V}/sobjects/Contact/{ada}")

    assert (made["Email"], made["Phone"]) == ("ada@example.com", "+44 (0)20")
    assert made["LastModifiedById"] == served.state.default.user["Id"]
    assert (changed.status_code, changed.content) == (204, b"")
    assert (after["Phone"], after["LastName"]) == (None, "Lovelace")
    assert after["SystemModstamp"] > made["SystemModstamp"]
    assert gone.status_code == 204
    assert await refusal(again) == (404, "ENTITY_IS_DELETED", "entity is deleted")
    assert await refusal(await served.http.get(f"{V}/sobjects/Contact/{ada}")) == (
        *(404, "ENTITY_IS_DELETED", "entity is deleted"),
    )


async def test_writes_are_remembered_in_order(served: Served) -> None:
    ada = await created(served, LastName="Lovelace", Email="ada@example.com")
    await collection(served, "PATCH", {"id": ada, "Title": "Countess"}, {"id": ada, "Foo": 1})
    await collection(served, "PATCH", {"id": ada, "Title": "X"}, {"id": "x"}, allOrNone=True)

    writes = (await served.control("GET", "writes"))["writes"]

    assert [(each["contact_id"], each["created"], each["attributes"]) for each in writes] == [
        (ada, True, {"LastName": "Lovelace", "Email": "ada@example.com"}),
        (ada, False, {"Title": "Countess"}),
    ]


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({}, "REQUIRED_FIELD_MISSING", "Required fields are missing: [LastName]"),
        ({"LastName": " "}, "REQUIRED_FIELD_MISSING", "Required fields are missing: [LastName]"),
        (
            {"LastName": "X", "Title": "y" * 129},
            "STRING_TOO_LONG",
            f"Title: data value too large: {'y' * 129} (max length=128)",
        ),
        (
            {"LastName": "X", "Email": "nobody"},
            "INVALID_EMAIL_ADDRESS",
            "Email: invalid email address: nobody",
        ),
        (
            {"LastName": "X", "Segment__c": "Tin"},
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            "Segment: bad value for restricted picklist field: Tin",
        ),
        (
            {"LastName": "X", "Interests__c": "Art;Chess"},
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            "Interests: bad value for restricted picklist field: Chess",
        ),
        (
            {"LastName": "X", "Points__c": 1e17},
            "NUMBER_OUTSIDE_VALID_RANGE",
            "Points: value outside of valid range on numeric field: 1e+17",
        ),
        ({"LastName": "X", "Foo__c": 1}, "INVALID_FIELD", "No such column 'Foo__c' on sobject of type Contact"),  # noqa: E501  # one case
        ({"LastName": "X", "AccountId": "x"}, "MALFORMED_ID", "Account ID: id value of incorrect type: x"),  # noqa: E501  # one case
        ({"LastName": "X", "AccountId": "001000000000009AAA"}, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id"),  # noqa: E501  # one case
        ({"LastName": "X", "Birthdate": "31.12.1999"}, "JSON_PARSER_ERROR", "Cannot deserialize instance of date from VALUE_STRING value 31.12.1999 or request may be missing a required field at [line:1, column:1]"),  # noqa: E501  # one case
        ({"LastName": "X", "Newsletter__c": "maybe"}, "JSON_PARSER_ERROR", "Cannot deserialize instance of boolean from VALUE_STRING value maybe or request may be missing a required field at [line:1, column:1]"),  # noqa: E501  # one case
    ],
)  # fmt: skip
async def test_a_record_that_cannot_be_is_refused(
    served: Served, body: dict[str, Any], code: str, message: str
) -> None:
    answer = await served.http.post(f"{V}/sobjects/Contact", json=body)

    assert await refusal(answer) == (400, code, message)
    assert await served.ids("SELECT Id FROM Contact") == []


async def test_what_is_worked_out_cannot_be_written(served: Served) -> None:
    answer = await served.http.post(
        f"{V}/sobjects/Contact", json={"LastName": "X", "Greeting__c": "y"}
    )

    status, code, message = await refusal(answer)
    assert (status, code) == (400, "INVALID_FIELD_FOR_INSERT_UPDATE")
    assert message.startswith("Unable to create/update fields: Greeting__c. Please check")


async def test_values_are_kept_as_their_fields_have_them(served: Served) -> None:
    ada = await created(
        served,
        LastName="  Lovelace ",
        Birthdate="1815-12-10",
        Last_Seen__c="2026-09-21T16:13:20+02:00",
        Points__c="2.005",
        Newsletter__c=None,
        Description="",
    )

    told = await read(served, ada)

    assert (told["LastName"], told["Name"], told["Birthdate"]) == (
        *("Lovelace", "Lovelace", "1815-12-10"),
    )
    assert told["Last_Seen__c"] == "2026-09-21T14:13:20.000+0000"
    assert (told["Points__c"], told["Newsletter__c"], told["Description"]) == (2.0, False, None)


async def test_only_asked_fields_are_read(served: Served) -> None:
    ada = await created(served, LastName="Lovelace")

    told = await served.get(f"/sobjects/Contact/{ada}", fields="LastName,Title")
    unknown = await served.http.get(f"{V}/sobjects/Contact/{ada}?fields=Foo")

    assert told == {
        "attributes": {"type": "Contact", "url": f"{V}/sobjects/Contact/{ada}"},
        "LastName": "Lovelace",
        "Title": None,
    }
    assert (await refusal(unknown))[1] == "INVALID_FIELD"


async def test_an_external_id_makes_or_changes(served: Served) -> None:
    path = f"{V}/sobjects/Contact/External_Id__c/a%2F1"
    made = await served.http.patch(path, json={"LastName": "Lovelace"})
    changed = await served.http.patch(path, json={"Title": "Countess"})
    found = await served.http.get(path)
    clash = await served.http.post(
        f"{V}/sobjects/Contact", json={"LastName": "X", "External_Id__c": "A/1"}
    )
    wrong = await served.http.patch(f"{V}/sobjects/Contact/Title/x", json={"LastName": "X"})

    assert (made.status_code, made.json()["created"]) == (201, True)
    assert (changed.status_code, changed.json()["created"]) == (200, False)
    assert (found.json()["LastName"], found.json()["Title"]) == ("Lovelace", "Countess")
    assert await refusal(clash) == (
        400,
        "DUPLICATE_VALUE",
        "duplicate value found: External_Id__c duplicates value on record with id: "
        + made.json()["id"],
    )
    assert wrong.status_code == 404
    assert (await served.http.delete(path)).status_code == 204


async def test_a_value_that_was_given_up_is_found_no_more(served: Served) -> None:
    path = f"{V}/sobjects/Contact/External_Id__c"
    first = (await served.http.patch(f"{path}/1", json={"LastName": "A"})).json()["id"]
    moved = await served.http.patch(f"{V}/sobjects/Contact/{first}", json={"External_Id__c": "2"})
    second = await served.http.patch(f"{path}/1", json={"LastName": "B"})
    found = await served.http.get(f"{path}/2")
    change = {"id": first, "External_Id__c": "3"}
    await collection(served, "PATCH", change, {"id": "x"}, allOrNone=True)
    taken_back = await served.http.get(f"{path}/3")

    assert moved.status_code == 204
    assert (second.status_code, second.json()["id"] != first) == (201, True)
    assert found.json()["Id"] == first
    assert taken_back.status_code == 404


async def test_a_value_that_reads_like_nothing_is_one(served: Served) -> None:
    await served.put(LastName="Lovelace")

    made = await served.http.patch(
        f"{V}/sobjects/Contact/External_Id__c/None", json={"LastName": "Hopper"}
    )

    assert made.status_code == 201


async def test_several_with_one_external_id_are_answered_with_their_places(served: Served) -> None:
    ids = [await served.put(LastName=each, External_Id__c="1") for each in ("A", "B")]

    answer = await served.http.patch(
        f"{V}/sobjects/Contact/External_Id__c/1", json={"LastName": "X"}
    )

    assert (answer.status_code, answer.json()) == (
        300,
        [f"{V}/sobjects/Contact/{each}" for each in ids],
    )


async def test_each_record_of_a_collection_has_an_outcome_in_its_place(served: Served) -> None:
    ids = await served.fill(4)
    await served.control("POST", "contacts:delete", {"ids": ids[3:]})

    outcomes = await collection(
        served,
        "PATCH",
        {"id": ids[0], "Title": "Countess"},
        {"id": ids[1], "Title": "x" * 129},
        {"id": ids[2], "LastName": None},
        {"id": ids[3], "Title": "x"},
        {"id": "003000000000009AAA", "Title": "x"},
        {"Title": "x"},
    )

    assert outcomes[0] == {"id": ids[0], "success": True, "errors": []}
    assert outcomes[3] == {
        "success": False,
        "errors": [
            {"statusCode": "ENTITY_IS_DELETED", "message": "entity is deleted", "fields": []}
        ],
    }
    assert codes(outcomes) == [
        *("", "STRING_TOO_LONG", "REQUIRED_FIELD_MISSING", "ENTITY_IS_DELETED"),
        *("INVALID_CROSS_REFERENCE_KEY", "MISSING_ARGUMENT"),
    ]
    assert (await read(served, ids[0]))["Title"] == "Countess"


async def test_all_or_none_takes_everything_back(served: Served) -> None:
    outcomes = await collection(
        served, "POST", {"LastName": "Lovelace"}, {"FirstName": "Ada"}, allOrNone=True
    )

    assert codes(outcomes) == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING"]
    assert await served.ids("SELECT Id FROM Contact") == []


async def test_a_value_of_another_type_refuses_the_whole_collection(served: Served) -> None:
    records = [{**CONTACT, "LastName": "A"}, {**CONTACT, "LastName": "B", "Birthdate": "1.1.70"}]

    answer = await served.http.post(COLLECTION, json={"records": records})

    assert (await refusal(answer))[:2] == (400, "JSON_PARSER_ERROR")
    assert await served.ids("SELECT Id FROM Contact") == []


async def test_a_collection_has_200_records_and_ten_chunks_at_most(served: Served) -> None:
    many = [{**CONTACT, "LastName": "X"}] * 201
    mixed = [{**CONTACT, "LastName": "X"}, {"attributes": {"type": "Account"}, "Name": "X"}] * 6
    sent: list[Any] = [many, many[:200], mixed, mixed[:10], [{"LastName": "X"}], {}, [1]]
    answers = [await served.http.post(COLLECTION, json={"records": each}) for each in sent]

    assert [each.status_code for each in answers] == [400, 200, 400, 200, 400, 400, 400]
    assert await refusal(answers[0]) == (
        400,
        "EXCEEDED_ID_LIMIT",
        "record limit reached. cannot submit more than 200 records into this call",
    )


async def test_a_collection_is_upserted_by_an_external_id(served: Served) -> None:
    path = f"{COLLECTION}/Contact/External_Id__c"
    ada = await served.put(LastName="Lovelace", External_Id__c="1")
    records = [
        {**CONTACT, "External_Id__c": "1", "Title": "Countess"},
        {**CONTACT, "External_Id__c": "2", "LastName": "Hopper"},
        {**CONTACT, "LastName": "X"},
    ]

    outcomes = (await served.http.patch(path, json={"records": records})).json()

    assert outcomes[0] == {"id": ada, "success": True, "errors": [], "created": False}
    assert outcomes[1]["created"] is True
    assert codes(outcomes) == ["", "", "MISSING_ARGUMENT"]


async def test_records_are_read_by_their_ids_null_for_who_is_not_there(served: Served) -> None:
    ids = await served.fill(2)
    await served.control("POST", "contacts:delete", {"ids": ids[:1]})
    wanted = {"ids": ids, "fields": ["Id"]}

    posted = (await served.http.post(f"{COLLECTION}/Contact", json=wanted)).json()
    got = await served.get("/composite/sobjects/Contact", ids=",".join(ids), fields="Id")

    assert posted == got
    assert (got[0], got[1]["Id"]) == (None, ids[1])


async def test_a_contact_with_a_case_is_not_deleted(served: Served) -> None:
    josh = await served.put(FirstName="Josh", LastName="Davis", Salutation="Mr.")
    other = await served.put(LastName="X")
    case = await served.control("POST", "cases:attach", {"contact": josh})
    message = (
        "Your attempt to delete Mr. Josh Davis could not be completed because it is associated "
        f"with the following cases.: {case['case_number']}\n"
    )

    single = await served.http.delete(f"{V}/sobjects/Contact/{josh}")
    many = await served.http.delete(COLLECTION, params={"ids": f"{josh},{other},x"})

    assert single.status_code == 400
    assert single.json() == [{"message": message, "errorCode": "DELETE_FAILED", "fields": []}]
    assert many.json()[0] == {
        "success": False,
        "errors": [{"statusCode": "DELETE_FAILED", "message": message, "fields": []}],
    }
    assert codes(many.json()) == ["DELETE_FAILED", "", "MALFORMED_ID"]
    assert await served.ids("SELECT Id FROM Contact") == [josh]


async def test_a_rule_of_the_org_refuses_in_its_own_words(served: Served) -> None:
    rule = {"field": "Title", "value": "Spam", "message": "No spam, please."}
    await served.control("POST", "validations", rule)

    answer = await served.http.post(
        f"{V}/sobjects/Contact", json={"LastName": "X", "Title": "Spam"}
    )

    assert await refusal(answer) == (
        *(400, "FIELD_CUSTOM_VALIDATION_EXCEPTION", "No spam, please."),
    )


async def test_duplicates_are_refused_or_warned_of(served: Served) -> None:
    ada = await served.put(LastName="Lovelace", Email="ada@example.com")
    body = {"LastName": "Byron", "Email": "ADA@example.com"}
    anyway = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
    await served.settings(duplicate_rule="block")
    blocked = await served.http.post(f"{V}/sobjects/Contact", json=body, headers=anyway)
    await served.settings(duplicate_rule="warn")
    warned = await served.http.post(f"{V}/sobjects/Contact", json=body)
    saved = await served.http.post(f"{V}/sobjects/Contact", json=body, headers=anyway)

    assert (blocked.status_code, warned.status_code, saved.status_code) == (400, 400, 201)
    (told,) = warned.json()
    assert (told["errorCode"], told["message"]) == (
        *("DUPLICATES_DETECTED", "Use one of these records?"),
    )
    assert told["duplicateResult"]["allowSave"] is True
    (match,) = told["duplicateResult"]["matchResults"][0]["matchRecords"]
    assert match["record"]["Id"] == ada


async def test_a_locked_row_is_refused_until_it_is_free(served: Served) -> None:
    ids = await served.fill(1)
    await served.control("POST", "contacts:lock", {"ids": ids, "times": 1})
    change = {"id": ids[0], "Title": "x"}
    first, second = (
        await collection(served, "PATCH", change),
        await collection(served, "PATCH", change),
    )
    await served.settings(commit_lag_s=10)
    await served.control("POST", "contacts:change", {"ids": ids})
    held = await collection(served, "PATCH", change)
    served.time.now_s += 10
    free = await collection(served, "PATCH", change)

    assert [codes(each)[0] for each in (first, second, held, free)] == [
        *("UNABLE_TO_LOCK_ROW", "", "UNABLE_TO_LOCK_ROW", ""),
    ]
    assert first[0]["errors"][0]["message"].endswith(f"1 records: {ids[0]}")


async def test_rights_are_the_users(served: Served) -> None:
    ids = await served.fill(1)
    await served.settings(undeletable_objects=["Contact"])
    kept = await served.http.delete(f"{V}/sobjects/Contact/{ids[0]}")
    await served.settings(read_only_objects=["Contact"])
    single = await served.http.patch(f"{V}/sobjects/Contact/{ids[0]}", json={"Title": "x"})
    many = await collection(served, "PATCH", {"id": ids[0], "Title": "x"})

    assert (await refusal(kept))[:2] == (403, "INSUFFICIENT_ACCESS_OR_READONLY")
    assert (await refusal(single))[:2] == (403, "INSUFFICIENT_ACCESS_OR_READONLY")
    assert codes(many) == ["INSUFFICIENT_ACCESS_OR_READONLY"]


async def test_a_converted_lead_is_not_changed(served: Served) -> None:
    (lead,) = await served.fill(1, object="Lead")
    await served.control("POST", "leads:convert", {"ids": [lead]})

    answer = await served.http.patch(f"{V}/sobjects/Lead/{lead}", json={"Title": "x"})

    assert (await refusal(answer))[:2] == (400, "CANNOT_UPDATE_CONVERTED_LEAD")


async def test_a_campaign_has_one_of_a_lead_and_a_contact_once(served: Served) -> None:
    (contact,) = await served.fill(1)
    campaign = await created(served, "Campaign", Name="Launch")
    path = f"{V}/sobjects/CampaignMember"
    body = {"CampaignId": campaign, "ContactId": contact}

    made = await served.http.post(path, json=body)
    again = await served.http.post(path, json=body)
    nobody = await served.http.post(path, json={"CampaignId": campaign})
    left = await served.http.delete(f"{path}/{made.json()['id']}")

    assert made.status_code == 201
    assert await refusal(again) == (400, "DUPLICATE_VALUE", "Already a campaign member.")
    assert (await refusal(nobody))[1] == "REQUIRED_FIELD_MISSING"
    assert left.status_code == 204


async def test_changes_and_deletions_are_told_by_the_minute(served: Served) -> None:
    ids = await served.fill(2)
    served.time.now_s += 120
    await served.control("POST", "contacts:delete", {"ids": ids[:1]})
    served.time.now_s += 180
    window = {"start": "2026-09-21T14:13:50+00:00", "end": "2026-09-21T14:18:10Z"}

    updated = await served.get("/sobjects/Contact/updated/", **window)
    deleted = await served.get("/sobjects/Contact/deleted/", **window)

    covered = "2026-09-21T14:18:00.000+0000"
    assert updated == {"ids": ids[1:], "latestDateCovered": covered}
    assert deleted["deletedRecords"] == [
        {"id": ids[0], "deletedDate": "2026-09-21T14:15:20.000+0000"}
    ]


async def test_a_long_transaction_holds_back_what_is_covered(served: Served) -> None:
    await served.settings(commit_lag_s=300)
    served.time.now_s += 600
    window = {"start": "2026-09-21T14:13:00Z", "end": "2026-09-21T14:30:00Z"}

    updated = await served.get("/sobjects/Contact/updated", **window)

    assert updated["latestDateCovered"] == "2026-09-21T14:18:20.000+0000"


@pytest.mark.parametrize(
    "window",
    [
        {"start": "2026-09-21T14:12:00Z", "end": "2026-09-21T14:13:00Z"},
        {"start": "2026-08-01T00:00:00Z", "end": "2026-09-21T14:13:00Z"},
        {"start": "yesterday", "end": "2026-09-21T14:13:00Z"},
    ],
)
async def test_a_window_that_cannot_be_covered_is_refused(
    served: Served, window: dict[str, str]
) -> None:
    answer = await served.http.get(f"{V}/sobjects/Contact/updated", params=window)

    assert (await refusal(answer))[:2] == (400, "INVALID_REPLICATION_DATE")


async def test_a_lie_claims_what_was_not_done(served: Served) -> None:
    ids = await served.fill(1)
    await served.control("PUT", "faults", [{"kind": "lie"}])
    told = await collection(served, "PATCH", {"id": ids[0], "Title": "x"})
    made = await served.http.post(f"{V}/sobjects/Contact", json={"LastName": "X"})
    await served.http.delete("/_sandbox/faults")

    assert told == [{"id": ids[0], "success": True, "errors": []}]
    assert (made.status_code, made.json()["success"]) == (201, True)
    assert (await read(served, ids[0]))["Title"] is None
    assert await served.ids("SELECT Id FROM Contact") == ids


KEYS = (
    *("attributes", "type", "records", "id", "Id", "ids", "fields", "allOrNone", "LastName"),
    *("FirstName", "Email", "Birthdate", "Newsletter__c", "Points__c", "AccountId", "Last_Seen__c"),
    *("Segment__c", "Interests__c", "External_Id__c", "operation", "query", "state", "Foo__c"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**20, [], {}, "", "a", "a@b.c", "\u0000", "🌻", "9" * 500),
    *("Contact", "CampaignMember", "003000000000001AAA", "SELECT Id FROM Contact", "queryAll"),
)
PATHS = (
    *("/sobjects/Contact", "/sobjects/Lead", "/sobjects/CampaignMember", "/composite/sobjects"),
    *("/composite/sobjects/Contact", "/jobs/query"),
)
PATCHED = (
    *("/sobjects/Contact/003000000000001AAA", "/sobjects/Contact/External_Id__c/1"),
    *("/composite/sobjects", "/composite/sobjects/Contact/External_Id__c"),
)


def anything(draw: Random, depth: int = 0) -> Any:
    if depth < 4 and draw.random() < 0.6:
        inner = [anything(draw, depth + 1) for _ in range(draw.randint(0, 4))]
        return {draw.choice(KEYS): each for each in inner} if draw.random() < 0.7 else inner
    return draw.choice(VALUES)


async def test_requests_that_make_no_sense_are_refused_each_of_them() -> None:
    """A sandbox that breaks proves nothing."""
    draw = Random(1)
    transport = httpx.ASGITransport(create_app(State()), raise_app_exceptions=True)
    base = "http://127.0.0.1:1"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=AUTHORIZED) as http:
        for _ in range(800):
            method = draw.choice(("POST", "PATCH"))
            path = draw.choice(PATHS if method == "POST" else PATCHED)
            records = [{**CONTACT, draw.choice(KEYS): anything(draw)} for _ in range(3)]
            body = {draw.choice(KEYS): anything(draw) for _ in range(draw.randint(0, 4))}
            sent = draw.choice((body, {"records": records}, {**body, **CONTACT}, anything(draw)))
            answer = await http.request(method, f"{V}{path}", json=sent)
            assert answer.status_code in {200, 201, 204, 400, 404}, (path, sent, answer.text)


WORDS = (
    *("SELECT", "FROM", "WHERE", "AND", "OR", "NOT", "IN", "LIKE", "ORDER", "BY", "LIMIT", "GROUP"),
    *("Id", "LastName", "Account.Name", "Foo", "Contact", "COUNT()", "COUNT(Id)", "FIELDS(ALL)"),
    *("(", ")", ",", "=", "!=", "<", ">=", "'x'", "'", "null", "true", "1", "-1.5", "TODAY"),
    *("2026-01-01", "2026-01-01T00:00:00Z", "SystemModstamp", "INCLUDES", "OFFSET", "DESC", ";"),
)


async def test_queries_that_make_no_sense_are_refused_each_of_them(served: Served) -> None:
    draw = Random(2)
    await served.fill(3)
    for _ in range(1_500):
        words = [draw.choice(WORDS) for _ in range(draw.randint(0, 7))]
        start = draw.choice(("", "SELECT Id FROM Contact ", "SELECT Id FROM Contact WHERE "))
        text = start + " ".join(words)
        answer = await served.http.get(f"{V}/query", params={"q": text})
        assert answer.status_code in {200, 400}, (text, answer.text)
