"""Contacts: what a write does, what it refuses, and what reading gives back."""

from datetime import datetime, timedelta

import pytest

from tests.sandbox.brevo.served import Brevo, refusal

ADA = "ada@example.org"
GONE = (404, "document_not_found", "Contact does not exist")


async def test_a_contact_is_created_once_and_updated_only_on_request(brevo: Brevo) -> None:
    created = await brevo.ask("POST", "/contacts", {"email": "Ada@Example.org"})
    again = await brevo.ask("POST", "/contacts", {"email": ADA})
    wanted = {"email": ADA, "attributes": {"FIRSTNAME": "Ada"}, "updateEnabled": True}
    updated = await brevo.ask("POST", "/contacts", wanted)

    assert (created.status_code, created.json()) == (201, {"id": 1})
    assert again.status_code == 400
    assert again.json() == {
        "code": "duplicate_parameter",
        "message": "Unable to create contact, email is already associated with another Contact",
        "metadata": {"duplicate_identifiers": ["email"]},
    }
    assert (updated.status_code, updated.content) == (204, b"")
    assert (await brevo.contact(ADA))["attributes"] == {"FIRSTNAME": "Ada"}


async def test_an_update_tells_the_id_if_asked(brevo: Brevo) -> None:
    contact_id = await brevo.put(ADA)

    answer = await brevo.ask(
        "POST", "/contacts", {"email": ADA, "updateEnabled": True, "getId": True}
    )

    assert (answer.status_code, answer.json()) == (200, {"id": contact_id})


async def test_a_contact_is_shown_as_the_real_service_shows_it(brevo: Brevo) -> None:
    wanted = {"email": ADA, "attributes": {"SMS": "+33612345678"}, "listIds": [2], "ext_id": "x1"}
    await brevo.ask("POST", "/contacts", wanted)

    shown = await brevo.contact(ADA)

    assert shown["attributes"] == {"SMS": "33612345678", "EXT_ID": "x1"}
    assert shown["listIds"] == [2]
    assert shown["listUnsubscribed"] is None
    assert shown["statistics"]["messagesSent"] == []
    created = datetime.fromisoformat(shown["createdAt"])
    modified = datetime.fromisoformat(shown["modifiedAt"])
    assert created.utcoffset() == modified.utcoffset() == timedelta(hours=2)
    assert len(shown["createdAt"]) == len("2026-08-01T19:43:31.777+02:00")
    assert len(shown["modifiedAt"]) == len("2026-08-01T19:45:17.088000+02:00")
    await brevo.settings(utc_offset_minutes=-300)
    assert (await brevo.contact(ADA))["createdAt"].endswith("-05:00")


async def test_a_contact_may_have_a_phone_or_an_ext_id_and_no_address(brevo: Brevo) -> None:
    by_phone = await brevo.ask("POST", "/contacts", {"attributes": {"SMS": "0033612345678"}})
    by_key = await brevo.ask("POST", "/contacts", {"ext_id": "crm-1"})
    nobody = await brevo.ask("POST", "/contacts", {"attributes": {"FIRSTNAME": "Ada"}})

    assert (by_phone.status_code, by_key.status_code) == (201, 201)
    assert "email" not in await brevo.get("/contacts/33612345678")
    message = "Please provide Email or SMS attribute value to create user"
    assert refusal(nobody) == (400, "missing_parameter", message)


@pytest.mark.parametrize(
    ("identifier", "kind"),
    [
        (ADA, "email_id"),
        ("33612345678", "phone_id"),
        ("%2B33612345678", "phone_id"),
        ("1", "contact_id"),
        ("crm%2F1", "ext_id"),
        ("33711111111", "whatsapp_id"),
        ("33140000000", "landline_number_id"),
    ],
)
async def test_a_contact_is_found_by_each_of_its_identifiers(
    brevo: Brevo, identifier: str, kind: str
) -> None:
    phones = {"SMS": "33612345678", "WHATSAPP": "33711111111", "LANDLINE_NUMBER": "33140000000"}
    await brevo.put(ADA, **phones, EXT_ID="crm/1")
    path = f"/contacts/{identifier}"

    read = await brevo.ask("GET", path, identifierType=kind)
    changed = await brevo.ask(
        "PUT", path, {"attributes": {"FIRSTNAME": "Ada"}}, identifierType=kind
    )
    deleted = await brevo.ask("DELETE", path, identifierType=kind)

    assert (read.status_code, read.json()["id"]) == (200, 1)
    assert (changed.status_code, deleted.status_code) == (204, 204)
    assert refusal(await brevo.ask("GET", path, identifierType=kind)) == GONE


async def test_without_a_type_a_phone_finds_a_contact_on_get_alone(brevo: Brevo) -> None:
    await brevo.put(ADA, SMS="33612345678")

    read = await brevo.ask("GET", "/contacts/33612345678")
    changed = await brevo.ask("PUT", "/contacts/33612345678", {"attributes": {}})

    assert read.status_code == 200
    assert refusal(changed) == GONE


async def test_an_identifier_that_makes_no_sense_is_refused(brevo: Brevo) -> None:
    for path, kind in [("ada", ""), ("1", "nickname"), ("x", "contact_id"), ("12", "phone_id")]:
        answer = await brevo.ask("GET", f"/contacts/{path}", identifierType=kind)
        assert answer.status_code == 400, path
    assert refusal(await brevo.ask("GET", "/contacts/bob@example.org")) == GONE
    assert refusal(await brevo.ask("DELETE", "/contacts/7")) == GONE


async def test_a_plus_in_a_path_may_be_read_as_a_blank(brevo: Brevo) -> None:
    await brevo.put("ada+x@example.org")
    await brevo.settings(plus_is_blank=True)

    bare = await brevo.ask("GET", "/contacts/ada+x@example.org")
    encoded = await brevo.ask("GET", "/contacts/ada%2Bx%40example.org")

    assert bare.status_code == 400
    assert encoded.status_code == 200


@pytest.mark.parametrize("kind", ["SMS", "EXT_ID", "WHATSAPP", "LANDLINE_NUMBER"])
async def test_somebody_elses_identifier_is_refused_and_named(brevo: Brevo, kind: str) -> None:
    await brevo.put("bob@example.org", **{kind: "33612345678"})
    await brevo.put(ADA)
    wanted = {"email": "new@example.org", "attributes": {kind: "33612345678"}}

    created = await brevo.ask("POST", "/contacts", wanted)
    upserted = await brevo.ask("POST", "/contacts", {**wanted, "email": ADA, "updateEnabled": True})
    updated = await brevo.ask("PUT", f"/contacts/{ADA}", {"attributes": wanted["attributes"]})

    for answer, verb in [(created, "create"), (upserted, "update"), (updated, "update")]:
        message = f"Unable to {verb} contact, {kind} is already associated with another Contact"
        assert refusal(answer) == (400, "duplicate_parameter", message)
        assert answer.json()["metadata"] == {"duplicate_identifiers": [kind]}
    assert (await brevo.contact(ADA))["attributes"] == {}


async def test_a_clash_on_update_may_have_another_code_with_the_same_metadata(
    brevo: Brevo,
) -> None:
    await brevo.put("bob@example.org", SMS="33612345678")
    await brevo.put(ADA)
    await brevo.settings(update_clash_code="invalid_parameter")

    answer = await brevo.ask("PUT", f"/contacts/{ADA}", {"attributes": {"SMS": "33612345678"}})

    assert refusal(answer)[:2] == (400, "invalid_parameter")
    assert answer.json()["metadata"] == {"duplicate_identifiers": ["SMS"]}


async def test_several_clashes_are_named_in_one_answer(brevo: Brevo) -> None:
    await brevo.put("bob@example.org", SMS="33612345678", EXT_ID="x")

    answer = await brevo.ask(
        "POST",
        "/contacts",
        {"email": "bob@example.org", "ext_id": "x", "attributes": {"SMS": "33612345678"}},
    )

    assert answer.json()["metadata"]["duplicate_identifiers"] == ["email", "SMS", "EXT_ID"]


async def test_a_forced_merge_keeps_the_newest_contact_and_deletes_the_other(brevo: Brevo) -> None:
    bob = await brevo.put("bob@example.org", SMS="33612345678", LASTNAME="Bob")
    ada = await brevo.put(ADA, FIRSTNAME="Ada")
    await brevo.control("POST", "lists/2:join", {"ids": [bob]})  # Bob is now the newest.

    answer = await brevo.ask(
        "PUT", f"/contacts/{ADA}", {"attributes": {"SMS": "33612345678"}, "forceMerge": True}
    )

    assert answer.status_code == 204
    assert (await brevo.ask("GET", f"/contacts/{ada}")).status_code == 404
    kept = await brevo.get(f"/contacts/{bob}")
    assert kept["attributes"] == {"FIRSTNAME": "Ada", "LASTNAME": "Bob", "SMS": "33612345678"}
    assert kept["listIds"] == [2]


async def test_a_forced_merge_on_create_tells_who_stayed(brevo: Brevo) -> None:
    await brevo.put("bob@example.org", SMS="33612345678")
    ada = await brevo.put(ADA, EXT_ID="x")

    answer = await brevo.ask(
        "POST",
        "/contacts",
        {
            "email": "new@example.org",
            "ext_id": "x",
            "attributes": {"SMS": "33612345678"},
            "forceMerge": True,
            "getId": True,
        },
    )

    assert (answer.status_code, answer.json()) == (200, {"id": ada})
    assert (await brevo.get("/contacts"))["count"] == 1
    assert (await brevo.get(f"/contacts/{ada}"))["email"] == "new@example.org"


async def test_an_update_changes_what_it_names_and_nothing_else(brevo: Brevo) -> None:
    await brevo.put(ADA, FIRSTNAME="Ada", LASTNAME="Byron", SMS="33612345678")

    await brevo.ask("PUT", f"/contacts/{ADA}", {"attributes": {"LASTNAME": "Lovelace"}})
    await brevo.ask("PUT", f"/contacts/{ADA}", {"attributes": {"FIRSTNAME": "", "SMS": ""}})

    assert (await brevo.contact(ADA))["attributes"] == {"LASTNAME": "Lovelace"}
    assert (await brevo.ask("GET", "/contacts/33612345678")).status_code == 404


async def test_an_address_is_changed_by_the_attribute_email(brevo: Brevo) -> None:
    contact_id = await brevo.put(ADA)
    await brevo.put("bob@example.org")

    changed = await brevo.ask(
        "PUT", f"/contacts/{contact_id}", {"attributes": {"EMAIL": "Ada.L@example.org"}}
    )
    taken = await brevo.ask(
        "PUT", f"/contacts/{contact_id}", {"attributes": {"EMAIL": "bob@example.org"}}
    )
    upserted = await brevo.ask(
        "POST",
        "/contacts",
        {
            "email": "ada.l@example.org",
            "attributes": {"EMAIL": "countess@example.org"},
            "updateEnabled": True,
        },
    )

    assert (changed.status_code, upserted.status_code) == (204, 204)
    assert taken.json()["metadata"] == {"duplicate_identifiers": ["email"]}
    assert (await brevo.ask("GET", f"/contacts/{ADA}")).status_code == 404
    assert (await brevo.contact("countess@example.org"))["id"] == contact_id


async def test_values_of_a_wrong_type_and_unknown_attributes_are_dropped_without_a_word(
    brevo: Brevo,
) -> None:
    await brevo.ask("POST", "/contacts/attributes/normal/POINTS", {"type": "float"})
    await brevo.ask("POST", "/contacts/attributes/normal/BORN", {"type": "date"})
    wrong = {"POINTS": "many", "BORN": "soon", "NICKNAME": "A", "firstname": "ada", "BLACKLIST": 1}

    answer = await brevo.ask(
        "POST", "/contacts", {"email": ADA, "attributes": {**wrong, "FIRSTNAME": "Ada"}}
    )

    assert answer.status_code == 201
    assert (await brevo.contact(ADA))["attributes"] == {"FIRSTNAME": "Ada"}


async def test_unknown_attributes_are_refused_if_the_account_is_set_so(brevo: Brevo) -> None:
    await brevo.settings(unknown_attribute="reject")

    answer = await brevo.ask("POST", "/contacts", {"email": ADA, "attributes": {"NICKNAME": "A"}})

    assert refusal(answer)[:2] == (400, "invalid_parameter")
    assert (await brevo.get("/contacts"))["count"] == 0


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"email": "ada"}, "invalid_parameter", "email is not valid"),
        ({"email": ADA, "attributes": {"SMS": "0612345678"}}, "invalid_parameter", "Invalid phone"),
        ({"email": ADA, "attributes": {"EMAIL": "x"}}, "invalid_parameter", "email is not valid"),
        ({"email": ADA, "listIds": [99]}, "invalid_parameter", "List ID does not exist"),
        ({"email": 5}, "invalid_parameter", "Expected `str | null`"),
        (None, "missing_parameter", "No inputs in the body"),
    ],
)
async def test_a_wrong_body_is_refused_whole(
    brevo: Brevo, body: object, code: str, message: str
) -> None:
    answer = await brevo.ask("POST", "/contacts", body)

    status, said, text = refusal(answer)
    assert (status, said) == (400, code)
    assert message in text
    assert (await brevo.get("/contacts"))["count"] == 0


async def test_writes_to_a_blocked_contact_succeed_and_leave_the_block(brevo: Brevo) -> None:
    await brevo.put(ADA)
    await brevo.control("POST", "contacts:block", {"emails": [ADA]})

    answer = await brevo.ask("PUT", f"/contacts/{ADA}", {"attributes": {"FIRSTNAME": "Ada"}})

    assert answer.status_code == 204
    assert (await brevo.contact(ADA))["emailBlacklisted"] is True
    assert (await brevo.control("GET", "state"))["resubscribed"] == []


@pytest.mark.parametrize(
    "body", [{"emailBlacklisted": False}, {"attributes": {"EMAIL": "new@example.org"}}]
)
async def test_a_false_or_a_new_address_takes_the_block_away_and_is_remembered(
    brevo: Brevo, body: dict[str, object]
) -> None:
    contact_id = await brevo.put(ADA)
    await brevo.control("POST", "contacts:block", {"emails": [ADA]})

    await brevo.ask("PUT", f"/contacts/{contact_id}", body)

    shown = await brevo.get(f"/contacts/{contact_id}")
    assert shown["emailBlacklisted"] is False
    assert (await brevo.control("GET", "state"))["resubscribed"] == [shown["email"]]


async def test_a_new_address_keeps_the_block_if_it_is_sent_along(brevo: Brevo) -> None:
    await brevo.put(ADA)
    await brevo.control("POST", "contacts:block", {"emails": [ADA]})

    await brevo.ask(
        "PUT",
        f"/contacts/{ADA}",
        {"attributes": {"EMAIL": "new@example.org"}, "emailBlacklisted": True},
    )

    assert (await brevo.contact("new@example.org"))["emailBlacklisted"] is True
    assert (await brevo.control("GET", "state"))["resubscribed"] == []


async def test_a_batch_updates_who_is_there_and_says_nothing_of_the_others(brevo: Brevo) -> None:
    ada = await brevo.put(ADA)
    await brevo.put("bob@example.org", SMS="33612345678")
    rows = [
        {"id": ada, "attributes": {"FIRSTNAME": "Ada"}, "listIds": [2], "ext_id": "a"},
        {"sms": "+33612345678", "attributes": {"FIRSTNAME": "Bob"}},
        {"email": "nobody@example.org", "attributes": {"FIRSTNAME": "Nobody"}},
        {"email": ADA, "attributes": {"SMS": "33612345678"}},
    ]

    answer = await brevo.ask("POST", "/contacts/batch", {"contacts": rows})

    assert (answer.status_code, answer.content) == (204, b"")
    assert (await brevo.contact(ADA))["attributes"] == {"FIRSTNAME": "Ada", "EXT_ID": "a"}
    assert (await brevo.contact(ADA))["listIds"] == [2]
    assert (await brevo.contact("bob@example.org"))["attributes"]["FIRSTNAME"] == "Bob"
    assert (await brevo.get("/contacts"))["count"] == 2


async def test_a_batch_with_a_wrong_row_is_refused_before_anything_is_applied(
    brevo: Brevo,
) -> None:
    ada = await brevo.put(ADA)
    good = {"id": ada, "attributes": {"FIRSTNAME": "Ada"}}

    for rows in ([good, {}], [good, {"id": ada, "email": ADA}], [good] * 101, []):
        answer = await brevo.ask("POST", "/contacts/batch", {"contacts": rows})
        assert answer.status_code == 400

    assert (await brevo.contact(ADA))["attributes"] == {}


async def test_modified_since_is_inclusive_and_every_touch_counts(brevo: Brevo) -> None:
    await brevo.put(ADA)
    bob = await brevo.put("bob@example.org")
    since = (await brevo.contact("bob@example.org"))["modifiedAt"]

    both = await brevo.get("/contacts", modifiedSince=since)
    await brevo.ask("POST", "/contacts/lists/2/contacts/add", {"emails": [ADA]})
    touched = await brevo.get("/contacts", modifiedSince=since, sort="asc")

    assert [each["id"] for each in both["contacts"]] == [bob]
    assert [each["email"] for each in touched["contacts"]] == [ADA, "bob@example.org"]
    assert touched["count"] == 2


async def test_pages_are_in_order_of_creation_newest_first_by_default(brevo: Brevo) -> None:
    ids = [await brevo.put(f"{name}@example.org") for name in "abcde"]

    first = await brevo.get("/contacts", limit=2)
    last = await brevo.get("/contacts", limit=2, offset=4, sort="asc")
    some = await brevo.get("/contacts", ids=f"{ids[0]},{ids[2]},999", sort="asc")

    assert [each["id"] for each in first["contacts"]] == ids[:-3:-1]
    assert [each["id"] for each in last["contacts"]] == ids[4:]
    assert (first["count"], last["count"], some["count"]) == (5, 5, 2)


async def test_contacts_are_filtered_by_list_by_creation_and_by_value(brevo: Brevo) -> None:
    ada = await brevo.put(ADA, FIRSTNAME="Ada")
    bob = await brevo.put("bob@example.org", FIRSTNAME="Bob")
    await brevo.ask("POST", "/contacts/lists/2/contacts/add", {"ids": [ada]})
    since = (await brevo.contact("bob@example.org"))["createdAt"]

    listed = await brevo.get("/contacts", listIds=2)
    named = await brevo.get("/contacts", filter='equals(FIRSTNAME,"Bob")')
    created = await brevo.get("/contacts", createdSince=since)

    assert [each["id"] for each in listed["contacts"]] == [ada]
    assert [each["id"] for each in named["contacts"]] == [bob]
    assert bob in [each["id"] for each in created["contacts"]]
    assert (await brevo.get("/contacts/lists/2/contacts"))["count"] == 1


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": 1001}, "out_of_range"),
        ({"limit": 0}, "out_of_range"),
        ({"offset": -1}, "out_of_range"),
        ({"limit": "x"}, "invalid_parameter"),
        ({"sort": "up"}, "invalid_parameter"),
        ({"ids": ",".join(map(str, range(1, 22)))}, "out_of_range"),
        ({"ids": "a"}, "invalid_parameter"),
        ({"listIds": 2, "segmentId": 1}, "invalid_parameter"),
        ({"segmentId": 1}, "invalid_parameter"),
        ({"modifiedSince": "yesterday"}, "invalid_parameter"),
        ({"modifiedSince": "2026-13-01T00:00:00Z"}, "invalid_parameter"),
        ({"modifiedSince": "2026-01-01"}, "invalid_parameter"),
        ({"filter": "FIRSTNAME=Ada"}, "invalid_parameter"),
    ],
)
async def test_a_page_that_cannot_be_given_is_refused(
    brevo: Brevo, query: dict[str, object], code: str
) -> None:
    answer = await brevo.ask("GET", "/contacts", **query)

    assert refusal(answer)[:2] == (400, code)


async def test_the_accounts_own_address_cannot_be_deleted(brevo: Brevo) -> None:
    owner = (await brevo.get("/account"))["email"]
    await brevo.put(owner)

    answer = await brevo.ask("DELETE", f"/contacts/{owner}")

    assert refusal(answer)[:2] == (405, "method_not_allowed")
    assert (await brevo.contact(owner))["email"] == owner


async def test_a_busy_account_answers_425_so_many_times(brevo: Brevo) -> None:
    await brevo.settings(too_early_calls=2)

    answers = [
        await brevo.ask("POST", "/contacts", {"email": ADA}),
        await brevo.ask("PUT", f"/contacts/{ADA}", {"attributes": {}}),
        await brevo.ask("POST", "/contacts", {"email": ADA}),
    ]

    assert [answer.status_code for answer in answers] == [425, 425, 201]
    assert answers[0].json()["code"] == "account_in_process"


async def test_a_full_plan_takes_updates_and_no_new_contact(brevo: Brevo) -> None:
    await brevo.put(ADA)
    await brevo.settings(contact_limit=1)

    new = await brevo.ask("POST", "/contacts", {"email": "bob@example.org"})
    known = await brevo.ask("POST", "/contacts", {"email": ADA, "updateEnabled": True})

    assert refusal(new)[:2] == (402, "not_enough_credits")
    assert known.status_code == 204


async def test_every_write_is_remembered_with_what_was_sent_and_the_version_it_made(
    brevo: Brevo,
) -> None:
    await brevo.ask("POST", "/contacts", {"email": ADA, "attributes": {"SMS": "+33612345678"}})
    await brevo.ask("PUT", f"/contacts/{ADA}", {"attributes": {"FIRSTNAME": "Ada"}})
    await brevo.ask("DELETE", f"/contacts/{ADA}")

    writes = (await brevo.control("GET", "writes?after=0"))["writes"]

    assert [(each["endpoint"], each["created"], each["version"]) for each in writes] == [
        ("POST /v3/contacts", True, 1),
        ("PUT /v3/contacts/{identifier}", False, 2),
        ("DELETE /v3/contacts/{identifier}", False, 2),
    ]
    assert writes[0]["attributes"] == {"SMS": "+33612345678"}
    assert {each["identity"] for each in writes} == {ADA}


async def test_the_filter_compares_choices_booleans_and_identifiers(brevo: Brevo) -> None:
    lands = {"type": "multiple-choice", "multiCategoryOptions": ["USA", "INDIA", "PERU"]}
    await brevo.ask("POST", "/contacts/attributes/normal/LANDS", lands)
    await brevo.ask("POST", "/contacts/attributes/normal/VIP", {"type": "boolean"})
    wanted = {"LANDS": ["USA", "INDIA"], "VIP": True, "SMS": "33612345678"}
    await brevo.ask("POST", "/contacts", {"email": ADA, "attributes": wanted})

    counts = {
        text: (await brevo.get("/contacts", filter=f"equals({text})"))["count"]
        for text in (
            *('LANDS,"USA, INDIA"', 'LANDS,"USA, PERU"', "VIP, true", "VIP, false"),
            *(f'EMAIL,"{ADA}"', 'SMS,"33612345678"', 'FIRSTNAME,"Ada"'),
        )
    }

    assert list(counts.values()) == [1, 0, 1, 0, 1, 1, 0]


async def test_sms_is_blocked_apart_from_mail(brevo: Brevo) -> None:
    await brevo.put(ADA)

    await brevo.ask("PUT", f"/contacts/{ADA}", {"smsBlacklisted": True})
    await brevo.ask("PUT", f"/contacts/{ADA}", {"smtpBlacklistSender": ["shop@example.com"]})

    shown = await brevo.contact(ADA)
    assert (shown["smsBlacklisted"], shown["emailBlacklisted"]) == (True, False)
    stored = brevo.state.default.contacts.owner("EMAIL", ADA)
    assert stored is not None
    assert stored.forbidden_senders == ["shop@example.com"]


async def test_an_identifier_that_is_no_text_is_dropped(brevo: Brevo) -> None:
    answer = await brevo.ask(
        "POST", "/contacts", {"email": ADA, "attributes": {"SMS": ["33612345678"], "EXT_ID": True}}
    )

    assert answer.status_code == 201
    assert (await brevo.contact(ADA))["attributes"] == {}
