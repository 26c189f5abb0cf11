"""Attributes of every category and type, and what becomes of their values."""

from typing import Any

import pytest

from tests.sandbox.brevo.served import Brevo, refusal

ADA = "ada@example.org"


async def attribute(brevo: Brevo, name: str) -> dict[str, Any]:
    listed = (await brevo.get("/contacts/attributes"))["attributes"]
    found: dict[str, Any] = next(each for each in listed if each["name"] == name)
    return found


async def stored(brevo: Brevo, name: str, value: object) -> object:
    """Send one value and return what is kept of it; None if nothing is."""
    await brevo.ask(
        "POST", "/contacts", {"email": ADA, "attributes": {name: value}, "updateEnabled": True}
    )
    return (await brevo.contact(ADA))["attributes"].get(name)


async def test_an_account_begins_with_names_and_identifiers(brevo: Brevo) -> None:
    listed = (await brevo.get("/contacts/attributes"))["attributes"]

    names = [each["name"] for each in listed]
    assert names[:3] == ["FIRSTNAME", "LASTNAME", "SMS"]
    assert {"EXT_ID", "WHATSAPP", "LANDLINE_NUMBER"} <= set(names)
    assert listed[0] == {"name": "FIRSTNAME", "category": "normal", "type": "text"}
    assert (await attribute(brevo, "BLACKLIST"))["calculatedValue"].startswith("COUNT")


@pytest.mark.parametrize(
    ("category", "body", "shown"),
    [
        ("normal", {"type": "text"}, {"type": "text"}),
        ("normal", {"type": "date"}, {"type": "date"}),
        ("normal", {"type": "float"}, {"type": "float"}),
        ("normal", {"type": "boolean"}, {"type": "boolean"}),
        ("normal", {"type": "user"}, {"type": "user"}),
        ("transactional", {"type": "id"}, {"type": "id"}),
        (
            "normal",
            {"type": "multiple-choice", "multiCategoryOptions": ["A", "B"]},
            {"type": "multiple-choice", "multiCategoryOptions": ["A", "B"]},
        ),
        (
            "category",
            {"type": "category", "enumeration": [{"value": 1, "label": "Gold"}]},
            {"enumeration": [{"value": 1, "valueStr": "1", "label": "Gold"}]},
        ),
        (
            "category",
            {"type": "category", "enumeration": [{"value": "fr", "label": "French"}]},
            {"enumeration": [{"value": 0, "valueStr": "fr", "label": "French"}]},
        ),
        ("calculated", {"value": "COUNT[A]"}, {"type": "float", "calculatedValue": "COUNT[A]"}),
        ("global", {"value": "SUM[A]"}, {"type": "float", "calculatedValue": "SUM[A]"}),
    ],
)
async def test_an_attribute_of_each_kind_is_made_shown_and_deleted(
    brevo: Brevo, category: str, body: dict[str, Any], shown: dict[str, Any]
) -> None:
    path = f"/contacts/attributes/{category}/extra"

    made = await brevo.ask("POST", path, body)

    assert (made.status_code, made.content) == (201, b"")
    assert await attribute(brevo, "EXTRA") == {"name": "EXTRA", "category": category, **shown}
    if category != "global":
        assert (await brevo.ask("DELETE", path)).status_code == 204
        assert refusal(await brevo.ask("DELETE", path))[0] == 404


@pytest.mark.parametrize(
    ("category", "name", "body", "code"),
    [
        ("normal", "FIRSTNAME", {"type": "text"}, "duplicate_parameter"),
        ("category", "FIRSTNAME", {"type": "category"}, "duplicate_parameter"),
        ("normal", "EMAIL", {"type": "text"}, "duplicate_parameter"),
        ("normal", "A", {}, "missing_parameter"),
        ("normal", "A", None, "missing_parameter"),
        ("normal", "A", {"type": "id"}, "invalid_parameter"),
        ("transactional", "A", {"type": "user"}, "invalid_parameter"),
        ("category", "A", {"type": "text"}, "invalid_parameter"),
        ("category", "A", {"type": "category"}, "missing_parameter"),
        ("normal", "A", {"type": "multiple-choice"}, "missing_parameter"),
        ("calculated", "A", {"type": "text"}, "missing_parameter"),
        ("imagined", "A", {"type": "text"}, "invalid_parameter"),
        (
            "normal",
            "A",
            {"type": "multiple-choice", "multiCategoryOptions": ["x" * 201]},
            "invalid_parameter",
        ),
    ],
)
async def test_an_attribute_that_cannot_be_is_refused(
    brevo: Brevo, category: str, name: str, body: dict[str, Any] | None, code: str
) -> None:
    answer = await brevo.ask("POST", f"/contacts/attributes/{category}/{name}", body)

    assert refusal(answer)[:2] == (400, code)


async def test_options_are_replaced_choices_are_added_and_the_type_stays(brevo: Brevo) -> None:
    base = "/contacts/attributes"
    choices = {"type": "multiple-choice", "multiCategoryOptions": ["A"]}
    options = {"type": "category", "enumeration": [{"value": 1, "label": "Gold"}]}
    await brevo.ask("POST", f"{base}/normal/MANY", choices)
    await brevo.ask("POST", f"{base}/category/TIER", options)
    await brevo.ask("POST", f"{base}/calculated/SUMS", {"value": "SUM[A]"})

    answers = [
        await brevo.ask("PUT", f"{base}/normal/MANY", {"multiCategoryOptions": ["A", "B"]}),
        await brevo.ask(
            "PUT", f"{base}/category/TIER", {"enumeration": [{"value": 2, "label": "Tin"}]}
        ),
        await brevo.ask("PUT", f"{base}/calculated/SUMS", {"value": "SUM[B]"}),
        await brevo.ask("DELETE", f"{base}/multiple-choice/MANY/A"),
        await brevo.ask("DELETE", f"{base}/multiple-choice/MANY/A"),
        await brevo.ask("PUT", f"{base}/normal/FIRSTNAME", {"type": "float"}),
        await brevo.ask("PUT", f"{base}/normal/FIRSTNAME", {"multiCategoryOptions": ["A"]}),
        await brevo.ask("PUT", f"{base}/normal/NOTHING", {"multiCategoryOptions": ["A"]}),
    ]

    assert [each.status_code for each in answers] == [204, 204, 204, 204, 404, 400, 400, 404]
    assert (await attribute(brevo, "MANY"))["multiCategoryOptions"] == ["B"]
    assert [each["label"] for each in (await attribute(brevo, "TIER"))["enumeration"]] == ["Tin"]
    assert (await attribute(brevo, "SUMS"))["calculatedValue"] == "SUM[B]"


async def test_a_deleted_attribute_takes_its_values_along(brevo: Brevo) -> None:
    await brevo.put(ADA, FIRSTNAME="Ada", LASTNAME="Lovelace")

    await brevo.ask("DELETE", "/contacts/attributes/normal/LASTNAME")
    identifier = await brevo.ask("DELETE", "/contacts/attributes/normal/SMS")

    assert (await brevo.contact(ADA))["attributes"] == {"FIRSTNAME": "Ada"}
    assert identifier.status_code == 400


@pytest.mark.parametrize(
    ("value", "kept"), [(2, 2), ("2", 2), ("silver", 2), ("Gold", 1), (3, None), (True, None)]
)
async def test_a_category_takes_the_value_or_the_label_of_an_option(
    brevo: Brevo, value: object, kept: int | None
) -> None:
    options = [{"value": 1, "label": "Gold"}, {"value": 2, "label": "Silver"}]
    body = {"type": "category", "enumeration": options}
    await brevo.ask("POST", "/contacts/attributes/category/TIER", body)

    assert await stored(brevo, "TIER", value) == kept


@pytest.mark.parametrize(
    ("value", "kept"),
    [(["USA"], ["USA"]), (["USA", "INDIA"], ["USA", "INDIA"]), (["MARS"], None), ("USA", None)],
)
async def test_a_multiple_choice_takes_a_list_of_its_options(
    brevo: Brevo, value: object, kept: list[str] | None
) -> None:
    body = {"type": "multiple-choice", "multiCategoryOptions": ["USA", "INDIA"]}
    await brevo.ask("POST", "/contacts/attributes/normal/COUNTRIES", body)

    assert await stored(brevo, "COUNTRIES", value) == kept


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("boolean", False, False),
        ("boolean", "true", None),
        ("float", 12.5, 12.5),
        ("float", "12.5", None),
        ("date", "2026-02-28", "2026-02-28"),
        ("date", "2026-02-30", None),
        ("text", "x", "x"),
        ("text", 5, None),
        ("text", None, None),
    ],
)
async def test_a_value_must_be_of_its_attributes_type(
    brevo: Brevo, kind: str, value: object, kept: object
) -> None:
    await brevo.ask("POST", "/contacts/attributes/normal/EXTRA", {"type": kind})

    assert await stored(brevo, "EXTRA", value) == kept
