"""The bulk importer: its checks, its queue, its failures and its limits."""

from typing import Any

import pytest

from tests.sandbox.activecampaign.served import ActiveCampaign

BULK = "/import/bulk_import"


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"email": f"person{number}@example.com", **more}


async def test_rows_are_written_with_lists_values_and_tags(ac: ActiveCampaign) -> None:
    await ac.post("/fields", {"field": {"type": "text", "title": "City"}})
    told = row(
        1,
        first_name="Ada",
        firstName="ignored",
        fields=[{"id": 1, "value": "Leeds"}, {"id": 99, "value": "nowhere"}],
        subscribe=[{"listid": 1}],
        tags=["vip"],
    )

    info = await ac.imported(told)

    assert info == {"status": "completed", "success": ["1"], "failure": []}
    [contact] = (await ac.whole())["contacts"]
    assert contact["attributes"] == {"FIRSTNAME": "Ada", "CITY": "Leeds"}
    assert (contact["listIds"], contact["tags"]) == ([1], ["vip"])
    await ac.imported(row(1, fields=[{"id": 1, "value": ""}], unsubscribe=[{"listid": 1}]))
    [contact] = (await ac.whole())["contacts"]
    assert (contact["attributes"], contact["statuses"]) == ({"FIRSTNAME": "Ada"}, {"1": 2})


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([{}, row(2)], [{"contact": 1, "failureReason": "Field 'email' not found"}]),
        ([row(1), {"email": "a(b)@example.com"}],
         [{"contact": 2, "failureReason": "Email 'a(b)@example.com' is not valid"}]),
        ([{"email": "a@example"}],
         [{"contact": 1, "failureReason": "Email 'a@example' is not valid"}]),
        ([], ["Field 'contacts' not found"]),
        ([row(n) for n in range(251)], ["An import has at most 250 contacts and 399999 bytes"]),
        ([row(1, first_name="x" * 400_000)],
         ["An import has at most 250 contacts and 399999 bytes"]),
    ],
)  # fmt: skip
async def test_one_bad_row_keeps_all_out(
    ac: ActiveCampaign, rows: list[dict[str, Any]], reasons: list[Any]
) -> None:
    answer = await ac.ask("POST", BULK, {"contacts": rows})

    assert answer.status_code == 400
    assert answer.json()["failureReasons"] == reasons
    assert (await ac.whole())["contacts"] == []


async def test_a_body_of_another_shape_is_refused(ac: ActiveCampaign) -> None:
    answer = await ac.ask("POST", BULK, {"contacts": 5})

    assert answer.status_code == 400


async def test_an_import_is_unknown_then_waits_then_ends(ac: ActiveCampaign) -> None:
    await ac.settings(import_delay_s=100)
    now_s = ac.state.clock.now_s()
    ac.state.clock._read_s = lambda: now_s
    queued = await ac.post(BULK, {"contacts": [row(1)]})
    seen = []
    for _ in range(5):
        info = await ac.get("/import/info", batchId=queued["batchId"])
        seen.append(info["status"])
        await ac.control("PUT", "clock", {"advance_s": 21})

    queue = await ac.get(BULK)

    assert queued == {
        "Success": 1,
        "queued_contacts": 1,
        "batchId": queued["batchId"],
        "message": "Contact import queued",
    }
    assert seen == [False, "waiting", "claimed", "active", "active"]
    assert queue == {
        "outstanding": [],
        "recentlyCompleted": [{"batchId": queued["batchId"], "contacts": "1"}],
    }
    assert (await ac.get("/import/info", batchId="unknown"))["status"] is False


async def test_what_waits_is_told_in_numbers(ac: ActiveCampaign) -> None:
    await ac.settings(import_delay_s=100)
    for number in range(2):
        await ac.post(BULK, {"contacts": [row(number), row(number + 10)]})

    [waiting] = (await ac.get(BULK))["outstanding"]

    assert (waiting["batches"], waiting["contacts"]) == ("2", "4")


async def test_rows_fail_without_a_word_why(ac: ActiveCampaign) -> None:
    """The four causes of the importer's page; the excluded are not even queued."""
    await ac.put("person1@example.com", on="News")
    await ac.control("POST", "contacts:block", {"emails": ["person1@example.com"], "list": "News"})
    await ac.put("person2@example.com")
    bounced = {"contacts": [{"email": "person2@example.com", "bounced": True}]}
    await ac.control("POST", "contacts:upsert", bounced)
    await ac.control("POST", "contacts:exclude", {"emails": ["person3@example.com"]})
    await ac.settings(contact_limit=3)
    rows = [row(number, subscribe=[{"listid": 2}]) for number in range(1, 6)]

    queued = await ac.post(BULK, {"contacts": rows})
    info = await ac.get("/import/info", batchId=queued["batchId"])

    assert queued["queued_contacts"] == 4
    assert info["success"] == ["3"]
    assert info["failure"] == [f"person{number}@example.com" for number in (1, 2, 3, 5)]
    assert (await ac.whole())["resubscribed"] == []


async def test_an_import_that_fails_ends_half_way(ac: ActiveCampaign) -> None:
    await ac.settings(import_outcome="failed")

    info = await ac.imported(*(row(number) for number in range(4)))

    assert (info["status"], len(info["success"])) == ("failed", 2)


async def test_a_share_of_rows_is_left_out_in_silence(ac: ActiveCampaign) -> None:
    await ac.settings(import_silent_failures=0.5)

    info = await ac.imported(*(row(number) for number in range(40)))

    assert 0 < len(info["success"]) < 40
    assert info["failure"] == []


@pytest.mark.parametrize(
    ("place", "in_payload", "in_rows", "automations"),
    [
        ("payload", True, False, 0),
        ("payload", False, True, 2),
        ("contact", True, False, 2),
        ("contact", False, True, 0),
        ("either", False, True, 0),
        ("either", False, False, 2),
    ],
)
async def test_automations_run_unless_the_import_says_not_to(
    ac: ActiveCampaign, place: str, *, in_payload: bool, in_rows: bool, automations: int
) -> None:
    """So that AC3 can fail; webhooks and notifications are never an import's."""
    await ac.settings(exclude_automations_in=place)
    told = row(1, subscribe=[{"listid": 1}], exclude_automations=in_rows)

    await ac.imported(told, exclude_automations=in_payload)

    triggered = (await ac.whole())["triggered"]
    assert triggered.get("automation", 0) == automations
    assert set(triggered) <= {"automation", "autoresponder"}


async def test_a_lie_queues_nothing(ac: ActiveCampaign) -> None:
    fault = {"kind": "lie", "match": {"method": "POST"}}
    await ac.control("PUT", "faults", [fault])

    info = await ac.imported(row(1))
    synced = await ac.post("/contact/sync", {"contact": {"email": "a@example.com"}})

    assert info == {"status": "completed", "success": [], "failure": []}
    assert synced["contact"]["id"] == "999999999"
    assert (await ac.whole())["contacts"] == []
    await ac.control("PUT", "faults", [{**fault, "status": 200, "body": {"ok": 1}}])
    assert await ac.post(BULK, {"contacts": [row(1)]}) == {"ok": 1}


async def test_imports_have_limits_of_their_own_answered_400(limited: ActiveCampaign) -> None:
    singles = [await limited.ask("POST", BULK, {"contacts": [row(n)]}) for n in range(21)]
    several = await limited.ask("POST", BULK, {"contacts": [row(1), row(2)]})

    assert [each.status_code for each in singles] == [200] * 20 + [400]
    assert singles[-1].json()["message"] == "Rate limit exceeded."
    assert several.status_code == 200
    calls = await limited.control("GET", "calls")
    assert calls["violations_by_bucket"] == {"import_single": 1}
