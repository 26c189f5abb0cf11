"""The demo's oracle: it finds what is wrong, each kind of wrong, and nothing in what is right."""

from copy import deepcopy
from typing import Any

import pytest

from local import verify
from local.verify import Before, Wanted

LIST = "Newsletter from HubSpot"

SOURCE = {
    "contacts": [
        {
            "id": "1",
            "archived": False,
            "properties": {
                "email": "Ada@example.com",
                "firstname": "Ada",
                "phone": "+44 7000 0001",
                "company": "",
                "birthday": "1990-12-10",
            },
        },
        {"id": "2", "archived": False, "properties": {"email": "bob@example.com", "phone": None}},
        {"id": "3", "archived": False, "properties": {"email": "carl@", "firstname": "Carl"}},
        {"id": "4", "archived": False, "properties": {"firstname": "Nobody"}},
        {"id": "5", "archived": False, "properties": {"email": "eve@example.com", "phone": "12"}},
        {"id": "6", "archived": False, "properties": {"email": "not@listed.example"}},
        {"id": "7", "archived": True, "properties": {"email": "gone@example.com"}},
        {
            "id": "8",
            "archived": False,
            "properties": {"email": "käthe@example.com", "phone": "0151 2345678"},
        },
    ],
    "lists": [{"name": "Newsletter", "members": ["1", "2", "3", "4", "5", "7", "8"]}],
}


def contact(number: int, email: str, *, listed: bool = True, **attributes: str) -> dict[str, Any]:
    return {
        "id": number,
        "email": email,
        "emailBlacklisted": False,
        "listIds": [9] if listed else [],
        "attributes": attributes,
    }


@pytest.fixture
def wanted() -> Wanted:
    return verify.wanted_of(SOURCE, "Newsletter")


@pytest.fixture
def before() -> Before:
    blocked = contact(20, "bob@example.com", listed=False)
    return verify.before_of(
        {
            "contacts": [
                contact(21, "stranger@example.com", listed=False, FIRSTNAME="Not ours"),
                {**blocked, "emailBlacklisted": True},
            ]
        }
    )


@pytest.fixture
def right() -> dict[str, Any]:
    """Return a destination that is as it should be."""
    return {
        "lists": [{"id": 9, "name": LIST}],
        "resubscribed": [],
        "contacts": [
            contact(
                10, "ada@example.com", FIRSTNAME="Ada", SMS="4470000001", BIRTHDAY="1990-12-10"
            ),
            {**contact(20, "bob@example.com"), "emailBlacklisted": True},
            contact(22, "käthe@example.com", SMS="491512345678"),
            contact(21, "stranger@example.com", listed=False, FIRSTNAME="Not ours"),
        ],
    }


def differences(destination: dict[str, Any], wanted: Wanted, before: Before) -> list[str]:
    return verify.differences(destination, list_name=LIST, wanted=wanted, before=before)


def test_what_the_rules_demand_is_worked_out_from_the_source(wanted: Wanted) -> None:
    assert wanted.contacts == {
        "1": {
            "EMAIL": "ada@example.com",
            "SMS": "4470000001",
            "FIRSTNAME": "Ada",
            "BIRTHDAY": "1990-12-10",
        },
        "2": {"EMAIL": "bob@example.com"},
        "8": {"EMAIL": "käthe@example.com", "SMS": "491512345678"},
    }
    assert wanted.rejected == {"3": "invalid_email", "4": "no_identity", "5": "invalid_phone"}
    assert wanted.reasons == {"invalid_email": 1, "no_identity": 1, "invalid_phone": 1}


def test_a_destination_that_is_right_differs_in_nothing(
    right: dict[str, Any], wanted: Wanted, before: Before
) -> None:
    assert differences(right, wanted, before) == []


@pytest.mark.parametrize(
    ("index", "change", "found"),
    [
        (0, {"attributes": {"FIRSTNAME": "Ada"}}, "contact 1 differs in BIRTHDAY, SMS"),
        (0, {"listIds": []}, "contact 1 is not on the list"),
        (0, {"email": "someone@example.com"}, "contact 1 is not there"),
        (0, {"emailBlacklisted": True}, "destination contact 10 was blocked by the sync"),
        (
            1,
            {"emailBlacklisted": False},
            "destination contact 20 was blocked before and is not any more",
        ),
        (3, {"listIds": [9]}, "destination contact 21 is on the list and should not be"),
        (3, {"attributes": {}}, "destination contact 21 should be as it was before"),
        (3, {"email": "new@example.com"}, "destination contact 21 should not be there"),
    ],
)
def test_each_thing_that_is_wrong_is_found(
    index: int,
    change: dict[str, Any],
    found: str,
    right: dict[str, Any],
    wanted: Wanted,
    before: Before,
) -> None:
    wrong = deepcopy(right)
    wrong["contacts"][index].update(change)

    assert found in differences(wrong, wanted, before)


def test_a_contact_made_active_again_is_found(
    right: dict[str, Any], wanted: Wanted, before: Before
) -> None:
    right["resubscribed"] = ["bob@example.com"]

    assert differences(right, wanted, before) == ["1 contacts were made active again"]


def test_who_unsubscribed_must_stay_off_where_a_list_is_consent(
    right: dict[str, Any], wanted: Wanted, before: Before
) -> None:
    """Proves S3 in the demo's oracle, for a destination whose lists mean to be mailed."""

    def found() -> list[str]:
        return verify.differences(
            right, list_name=LIST, wanted=wanted, before=before, stay_off=before.blocked
        )

    joined = found()
    right["contacts"][1]["listIds"] = []

    assert joined == [
        "contact 2 is on the list and should not be",
        "the list has 3 members and should have 2",
    ]
    assert found() == []


def test_what_waits_must_not_be_there_yet(
    right: dict[str, Any], wanted: Wanted, before: Before
) -> None:
    waiting = {"1"}
    found = verify.differences(right, list_name=LIST, wanted=wanted, before=before, waiting=waiting)
    del right["contacts"][0]

    assert "destination contact 10 should not be there" in found
    assert not verify.differences(
        right, list_name=LIST, wanted=wanted, before=before, waiting=waiting
    )


def test_rejections_that_are_told_otherwise_are_found(wanted: Wanted) -> None:
    told = [
        {"source_id": "3", "reason": "invalid_email"},
        {"source_id": "4", "reason": "malformed"},
        {"source_id": "1", "reason": "no_identity"},
    ]

    assert verify.rejection_differences(told, wanted) == [
        "contact 1 is reported as no_identity and should be not rejected",
        "contact 4 is reported as malformed and should be no_identity",
        "contact 5 is reported as not rejected and should be invalid_phone",
    ]


def test_no_more_differences_are_told_than_a_person_reads() -> None:
    assert verify.shortened(["a"] * 25)[-1] == "… and 5 more"
    assert verify.shortened(["a"]) == ["a"]
