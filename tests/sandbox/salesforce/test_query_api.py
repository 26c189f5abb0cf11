"""Queries against the Salesforce sandbox: what they find, in which order, and what they refuse."""

from random import Random

import pytest

from tests.sandbox.salesforce.served import START, START_S, Served, V


async def test_a_query_shows_the_fields_that_it_names_as_json_has_them(served: Served) -> None:
    account = await served.put("Account", Name="Analytical Engines")
    ada = await served.put(LastName="Lovelace", FirstName="Ada", AccountId=account)

    page = await served.query("SELECT id, name, Account.Name, SystemModstamp FROM contact")

    assert page == {
        "totalSize": 1,
        "done": True,
        "records": [
            {
                "attributes": {"type": "Contact", "url": f"{V}/sobjects/Contact/{ada}"},
                "Id": ada,
                "Name": "Ada Lovelace",
                "SystemModstamp": "2026-09-21T14:13:20.000+0000",
                "Account": {
                    "attributes": {"type": "Account", "url": f"{V}/sobjects/Account/{account}"},
                    "Name": "Analytical Engines",
                },
            }
        ],
    }


async def test_a_parent_that_is_not_there_is_null(served: Served) -> None:
    await served.put(LastName="Lovelace")

    assert await served.rows("SELECT LastName, Account.Name FROM Contact") == [
        {"LastName": "Lovelace", "Account": None}
    ]


async def test_a_long_result_has_pages_that_stay_as_they_were_found(served: Served) -> None:
    ids = await served.fill(450)
    first = await served.http.get(
        f"{V}/query",
        params={"q": "SELECT Id FROM Contact"},
        headers={"Sforce-Query-Options": "batchSize=200"},
    )
    await served.control("POST", "contacts:delete", {"ids": ids[200:300]})

    page, found = first.json(), first.json()["records"]
    while not page["done"]:
        page = (await served.http.get(page["nextRecordsUrl"])).json()
        assert page["totalSize"] == 450
        found += page["records"]

    assert [each["Id"] for each in found] == ids
    assert "nextRecordsUrl" not in page


async def test_a_locator_is_good_for_two_days(served: Served) -> None:
    await served.fill(300)
    await served.settings(page_rows_max=100)
    page = await served.query("SELECT Id FROM Contact")
    served.time.now_s += 2 * 86_400 - 1
    still_there = await served.http.get(page["nextRecordsUrl"])
    served.time.now_s += 1
    gone = await served.http.get(page["nextRecordsUrl"])

    assert still_there.status_code == 200
    assert (gone.status_code, gone.json()[0]["errorCode"]) == (400, "INVALID_QUERY_LOCATOR")


async def test_ten_thousand_of_one_second_are_read_by_stamp_and_id(served: Served) -> None:
    ids = await served.fill(10_000)
    found: list[str] = []
    last = "000000000000000AAA"
    while True:
        page = await served.ids(
            f"SELECT Id FROM Contact WHERE (SystemModstamp > {START} OR (SystemModstamp = {START}"
            f" AND Id > '{last}')) AND SystemModstamp <= {START}"
            " ORDER BY SystemModstamp ASC, Id ASC LIMIT 2000"
        )
        if not page:
            break
        found, last = found + page, page[-1]

    assert found == ids


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("LastName = 'LOVELACE'", ["Lovelace"]),
        ("LastName != 'Lovelace'", ["Hopper", "O'Brien"]),
        ("FirstName = null", ["O'Brien"]),
        ("FirstName != null", ["Lovelace", "Hopper"]),
        ("LastName = 'O\\'Brien'", ["O'Brien"]),
        ("LastName LIKE '%o%'", ["Lovelace", "Hopper", "O'Brien"]),
        ("LastName LIKE 'hop_er'", ["Hopper"]),
        ("NOT LastName LIKE 'h%'", ["Lovelace", "O'Brien"]),
        ("Email LIKE '100\\%@example.com'", ["Hopper"]),
        ("LastName IN ('hopper', 'nobody')", ["Hopper"]),
        ("LastName NOT IN ('hopper')", ["Lovelace", "O'Brien"]),
        ("Newsletter__c = true", ["Hopper"]),
        ("Newsletter__c = false AND FirstName != null", ["Lovelace"]),
        ("Points__c > 1 OR (Points__c = 1 AND LastName = 'Lovelace')", ["Lovelace", "Hopper"]),
        ("Points__c <= 1.5", ["Lovelace"]),
        ("Birthdate < 1900-01-01", ["Lovelace"]),
        ("Anniversary__c = TODAY", ["Hopper"]),
        ("Anniversary__c = YESTERDAY", []),
        ("CreatedDate = LAST_N_DAYS:3", ["Lovelace", "Hopper", "O'Brien"]),
        ("Interests__c INCLUDES ('Art', 'Music;Sports')", ["Lovelace", "Hopper"]),
        ("Interests__c EXCLUDES ('Art')", ["Hopper", "O'Brien"]),
        ("Contact.LastName = 'Hopper'", ["Hopper"]),
    ],
)
async def test_conditions_find_what_they_say(
    served: Served, where: str, expected: list[str]
) -> None:
    await served.put(
        LastName="Lovelace",
        FirstName="Ada",
        Email="1000@example.com",
        Points__c=1.0,
        Birthdate="1815-12-10",
        Interests__c="Music;Art",
    )
    await served.put(
        LastName="Hopper",
        FirstName="Grace",
        Email="100%@example.com",
        Points__c=2.0,
        Newsletter__c=True,
        Anniversary__c="2026-09-21",
        Interests__c="Music;Sports",
    )
    await served.put(LastName="O'Brien")

    rows = await served.rows(f"SELECT LastName FROM Contact WHERE {where}")

    assert [each["LastName"] for each in rows] == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("FirstName", [None, "Ada", "grace"]),
        ("FirstName DESC", [None, "grace", "Ada"]),
        ("FirstName NULLS LAST", ["Ada", "grace", None]),
        ("FirstName DESC NULLS LAST", ["grace", "Ada", None]),
        ("Id DESC LIMIT 2", [None, "Ada"]),
        ("Id LIMIT 1 OFFSET 1", ["Ada"]),
    ],
)
async def test_records_are_ordered_empty_ones_first(
    served: Served, order: str, expected: list[str | None]
) -> None:
    for first_name in ("grace", "Ada", None):
        await served.put(LastName="X", FirstName=first_name)

    rows = await served.rows(f"SELECT FirstName FROM Contact ORDER BY {order}")

    assert [each["FirstName"] for each in rows] == expected


async def test_records_that_are_named_come_in_the_order_that_is_wanted(served: Served) -> None:
    ids = await served.fill(12)
    served.time.now_s += 1
    await served.control("POST", "contacts:change", {"ids": ids[:1]})

    named = ", ".join(f"'{each}'" for each in ids)
    found = await served.ids(
        f"SELECT Id FROM Contact WHERE Id IN ({named}) ORDER BY SystemModstamp, Id"
    )

    assert found == [*ids[1:], ids[0]]


async def test_members_of_a_campaign_are_found_from_both_sides(served: Served) -> None:
    inside = await served.fill(2, list="Launch")
    await served.fill(1, seed=2)
    campaign = (await served.ids("SELECT Id FROM Campaign WHERE Name = 'Launch'"))[0]

    members = await served.rows(
        f"SELECT ContactId, Contact.Id FROM CampaignMember WHERE CampaignId = '{campaign}'"
    )
    joined = await served.ids(
        "SELECT Id FROM Contact WHERE Id IN"
        f" (SELECT ContactId FROM CampaignMember WHERE CampaignId = '{campaign[:15]}')"
    )
    outside = await served.query(
        "SELECT COUNT() FROM Contact WHERE Id NOT IN (SELECT ContactId FROM CampaignMember)"
    )

    assert [each["ContactId"] for each in members] == inside
    assert [each["Contact"]["Id"] for each in members] == inside
    assert joined == inside
    assert outside == {"totalSize": 1, "done": True, "records": []}


async def test_nothing_is_not_among_what_a_join_finds(served: Served) -> None:
    await served.fill(1, object="Lead", list="Launch")

    leads = await served.ids(
        "SELECT Id FROM Lead WHERE ConvertedContactId IN (SELECT ContactId FROM CampaignMember)"
    )

    assert leads == []


BOUNDS = (
    *("SystemModstamp > {}", "SystemModstamp >= {}", "SystemModstamp < {}", "SystemModstamp <= {}"),
    *("SystemModstamp = {}", "SystemModstamp != {}", "Title = null", "LastName LIKE '%e%'"),
)


def condition(draw: Random, depth: int = 0) -> str:
    """Return a condition about stamps, of parts that are joined in any way."""
    if depth == 3 or draw.random() < 0.3:
        return draw.choice(BOUNDS).format(f"2026-09-21T14:13:{draw.randint(20, 24)}Z")
    parts = [f"({condition(draw, depth + 1)})" for _ in range(draw.randint(1, 3))]
    joined = draw.choice((" AND ", " OR ")).join(parts)
    return f"NOT ({joined})" if draw.random() < 0.2 else joined


async def test_the_index_of_stamps_finds_what_a_look_at_every_record_does(
    served: Served,
) -> None:
    for number in range(4):
        await served.fill(5, seed=number + 1)
        served.time.now_s += 1
    draw = Random(1)
    found = 0
    for _ in range(150):
        where = condition(draw)
        indexed = await served.ids(
            f"SELECT Id FROM Contact WHERE {where} ORDER BY SystemModstamp, Id"
        )
        # What is negated sets no bound, so every record is looked at.
        looked_at = await served.ids(
            f"SELECT Id FROM Contact WHERE NOT (NOT ({where})) ORDER BY Id"
        )
        assert sorted(indexed) == looked_at, where
        found += 0 < len(indexed) < 20
    assert found > 50


async def test_cases_are_counted_by_contact(served: Served) -> None:
    ada, grace = await served.fill(2)
    for contact in (ada, ada, grace):
        await served.control("POST", "cases:attach", {"contact": contact})

    rows = await served.rows(
        f"SELECT ContactId, COUNT(Id) FROM Case WHERE ContactId IN ('{ada}', '{grace}')"
        " GROUP BY ContactId"
    )

    assert rows == [{"ContactId": ada, "expr0": 2}, {"ContactId": grace, "expr0": 1}]


async def test_what_was_deleted_is_found_by_query_all_for_fifteen_days(served: Served) -> None:
    ids = await served.fill(2)
    served.time.now_s += 60
    await served.control("POST", "contacts:delete", {"ids": ids[:1]})
    deleted = "SELECT Id, IsDeleted, SystemModstamp FROM Contact WHERE IsDeleted = true"

    assert await served.ids("SELECT Id FROM Contact") == ids[1:]
    assert await served.rows(deleted) == []
    assert await served.rows(deleted, everything=True) == [
        {"Id": ids[0], "IsDeleted": True, "SystemModstamp": "2026-09-21T14:14:20.000+0000"}
    ]
    served.time.now_s += 15 * 86_400 + 1
    assert await served.rows(deleted, everything=True) == []


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("SELECT Id, FROM Contact", "MALFORMED_QUERY", "unexpected token: 'FROM'"),
        ("SELECT Id FROM Contact WHERE", "MALFORMED_QUERY", "'<EOF>'"),
        ("SELECT Id FROM Contact WHERE LastName = 'X", "MALFORMED_QUERY", "quote"),
        ("SELECT Id FROM Contact WHERE A = 1 AND B = 2 OR C = 3", "MALFORMED_QUERY", "'OR'"),
        ("SELECT Id FROM Contact LIMIT -1", "MALFORMED_QUERY", "'-1'"),
        ("SELECT Id FROM Contact; DROP", "MALFORMED_QUERY", "';'"),
        ("SELECT FIELDS(ALL) FROM Contact", "MALFORMED_QUERY", "LIMIT"),
        ("SELECT LastName, COUNT(Id) FROM Contact", "MALFORMED_QUERY", "grouped"),
        ("SELECT Foo__c FROM Contact", "INVALID_FIELD", "No such column 'Foo__c' on entity"),
        ("SELECT Boss.Name FROM Contact", "INVALID_FIELD", "relationship 'Boss'"),
        ("SELECT Id FROM Unknown", "INVALID_TYPE", "sObject type 'Unknown'"),
        ("SELECT Id FROM Contact WHERE SystemModstamp > '2026-01-01'", "INVALID_FIELD", "dateTime"),
        ("SELECT Id FROM Contact WHERE SystemModstamp > 2026-01-01", "INVALID_FIELD", "dateTime"),
        ("SELECT Id FROM Contact WHERE LastName = 1", "INVALID_FIELD", "string"),
        ("SELECT Id FROM Contact WHERE Id = 'x'", "INVALID_QUERY_FILTER_OPERATOR", "invalid ID"),
        ("SELECT Id FROM Contact WHERE Description = 'x'", "INVALID_FIELD", "filtered"),
        ("SELECT Id FROM Contact ORDER BY Description", "INVALID_FIELD", "sorted"),
        ("SELECT Id FROM Contact OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "2000"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(
    served: Served, text: str, code: str, word: str
) -> None:
    await served.put(LastName="X")

    status, told, message = await served.refusal(text)

    assert (status, told) == (400, code)
    assert word in message


async def test_a_refused_query_shows_where_it_goes_wrong(served: Served) -> None:
    _, _, message = await served.refusal("SELECT Id, Foo__c FROM Contact")

    shown, pointer, place = message.split("\n")[1:4]
    assert (shown, place) == ("SELECT Id, Foo__c FROM Contact"[:31], "ERROR at Row:1:Column:12")
    assert pointer.index("^") == shown.index("Foo__c")


async def test_an_address_is_at_most_16_kilobytes_long(served: Served) -> None:
    names = ", ".join(["LastName"] * 1_700)

    answer = await served.http.get(f"{V}/query", params={"q": f"SELECT {names} FROM Contact"})

    assert answer.status_code == 414


async def test_fields_all_standard_and_custom(served: Served) -> None:
    await served.put(LastName="X", Points__c=3.0)

    everything = await served.rows("SELECT FIELDS(ALL) FROM Contact LIMIT 200")
    standard = await served.rows("SELECT FIELDS(STANDARD) FROM Contact")
    custom = await served.rows("SELECT FIELDS(CUSTOM), Id FROM Contact LIMIT 1")

    assert everything[0]["Points__c"] == custom[0]["Points__c"] == 3.0
    assert "Points__c" not in standard[0]
    assert "LastName" not in custom[0]


async def test_what_is_worked_out_does_not_move_the_stamp(served: Served) -> None:
    account = await served.put("Account", Name="Old")
    ada = await served.put(LastName="L", FirstName="Ada", AccountId=account, MailingCity="Leeds")
    served.time.now_s += 60
    wish = {"object": "Account", "contacts": [{"id": account, "properties": {"Name": "New"}}]}
    await served.control("POST", "contacts:upsert", wish)
    await served.control("POST", "cases:attach", {"contact": ada})

    (row,) = await served.rows(
        "SELECT Greeting__c, Cases_Total__c, MailingAddress, SystemModstamp FROM Contact"
    )

    assert (row["Greeting__c"], row["Cases_Total__c"]) == ("Ada of New", 1.0)
    assert row["MailingAddress"]["city"] == "Leeds"
    assert row["SystemModstamp"] == "2026-09-21T14:13:20.000+0000"


async def test_a_process_of_the_system_moves_only_the_system_modstamp(served: Served) -> None:
    ids = await served.fill(1)
    served.time.now_s = START_S + 60
    await served.control("POST", "contacts:change", {"ids": ids, "kind": "touch"})

    (row,) = await served.rows("SELECT LastModifiedDate, SystemModstamp FROM Contact")

    assert row["LastModifiedDate"] < row["SystemModstamp"]


async def test_a_long_transaction_shows_its_records_with_a_stamp_of_the_past(
    served: Served,
) -> None:
    await served.settings(commit_lag_s=300)
    await served.fill(1)
    served.time.now_s += 299
    before = await served.rows("SELECT SystemModstamp FROM Contact")
    served.time.now_s += 1
    after = await served.rows("SELECT SystemModstamp FROM Contact")

    assert before == []
    assert after == [{"SystemModstamp": "2026-09-21T14:13:20.000+0000"}]
