"""/v1/integrations: the wizard's steps, in any order, and what is refused."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from tests.services.config_api.served import (
    FIELDS,
    Draft,
    Served,
    codes,
    connect_brevo,
    connect_hubspot,
    edit,
    make_draft,
    pointers,
)


async def new_draft(api: httpx.AsyncClient) -> str:
    made = await api.post("/v1/integrations", json={"name": "one"})
    return f"/v1/integrations/{made.json()['id']}"


async def patch(api: httpx.AsyncClient, path: str, body: dict[str, Any]) -> httpx.Response:
    return await api.patch(path, json=body, headers={"if-match": "*"})


async def activated(served: Served, api: httpx.AsyncClient) -> Draft:
    draft = await make_draft(served, api)
    await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)
    return draft


async def schedule_of(sessions: SessionMaker) -> dict[str, Any]:
    async with sessions.begin() as session:
        found = await session.execute(
            text(
                "select is_active, wanted_mode, wanted_mapping_version, interval_minutes"
                " from sync.schedules"
            )
        )
        row = found.one_or_none()
    return {} if row is None else dict(row._mapping)


async def test_a_draft_is_left_and_resumed_at_any_step(api: httpx.AsyncClient) -> None:
    """Proves W1 and W4: the steps come in any order, and who ticked the opt-in is kept."""
    path = await new_draft(api)
    await edit(api, "PATCH", path, {"interval_minutes": 60})
    await edit(api, "PATCH", path, {"opt_in": {"accepted": True}})
    await edit(api, "PATCH", path, {"source": {"connection_id": await connect_hubspot(api)}})
    await edit(api, "PATCH", path, {"source": {"object": "contacts"}})

    shown = (await api.get(path)).json()

    assert shown["state"] == "draft"
    assert shown["interval_minutes"] == 60
    assert shown["opt_in"]["accepted"]
    assert shown["opt_in"]["by"].startswith("First key (key_")
    assert shown["opt_in"]["at"].endswith("Z")
    assert shown["source"]["connection_id"].startswith("con_")
    assert shown["source"]["object"] == "contacts"


@pytest.mark.parametrize("answer", ["on", "yes", 1, "true"])
async def test_only_a_yes_is_an_agreement(api: httpx.AsyncClient, answer: object) -> None:
    """Proves W4: what is recorded with who and when was said, not guessed."""
    path = await new_draft(api)

    refused = await patch(api, path, {"opt_in": {"accepted": answer}})

    assert (refused.status_code, pointers(refused)) == (422, ["/opt_in/accepted"])
    assert (await api.get(path)).json()["opt_in"]["accepted"] is False


async def test_the_opt_in_can_be_taken_back_from_a_draft(api: httpx.AsyncClient) -> None:
    """Proves W4."""
    path = await new_draft(api)
    await edit(api, "PATCH", path, {"opt_in": {"accepted": True}})
    first = (await api.get(path)).json()["opt_in"]
    await edit(api, "PATCH", path, {"opt_in": {"accepted": True}, "name": "two"})
    second = (await api.get(path)).json()["opt_in"]

    taken_back = await edit(api, "PATCH", path, {"opt_in": {"accepted": False}})

    assert first == second
    assert taken_back["opt_in"] == {"accepted": False, "at": None, "by": None}


async def test_nobody_overwrites_a_change_that_he_has_not_seen(api: httpx.AsyncClient) -> None:
    path = await new_draft(api)
    seen = (await api.get(path)).headers["etag"]
    await edit(api, "PATCH", path, {"name": "theirs"})

    blind = await api.patch(path, json={"name": "mine"})
    late = await api.patch(path, json={"name": "mine"}, headers={"if-match": seen})

    assert (blind.status_code, blind.json()["code"]) == (428, "precondition_required")
    assert (late.status_code, late.json()["code"]) == (412, "stale")
    assert (await api.get(path)).json()["name"] == "theirs"


async def test_sending_what_is_there_changes_nothing(api: httpx.AsyncClient) -> None:
    path = await new_draft(api)
    before = (await api.get(path)).headers["etag"]

    answer = await patch(api, path, {"name": "one"})

    assert answer.headers["etag"] == before


async def test_every_change_has_a_new_etag(api: httpx.AsyncClient) -> None:
    path = await new_draft(api)

    tags = [(await patch(api, path, {"name": name})).headers["etag"] for name in ("two", "three")]

    assert tags == ['"2"', '"3"']


WRONG_TURNS: list[tuple[dict[str, Any], set[str]]] = [
    ({"interval_minutes": 4}, {"/interval_minutes"}),
    (
        {"interval_minutes": 1441, "deletion_policy": "all"},
        {"/interval_minutes", "/deletion_policy"},
    ),
    ({"name": None, "opt_in": None}, {"/name", "/opt_in"}),
    ({"default_country": "XX"}, {"/default_country"}),
    ({"default_country": "de"}, {"/default_country"}),
    ({"state": "active"}, {"/state"}),
    ({"source": {"connection_id": "con_1"}}, {"/source/connection_id"}),
    ({"source": {"connection_id": f"con_{'0' * 32}"}}, {"/source/connection_id"}),
    ({"source": {"list_id": "1"}}, {"/source/list_id"}),
    ({"opt_in": {"accepted": True, "by": "me"}}, {"/opt_in/by"}),
]


async def test_a_wrong_turn_changes_nothing_and_says_where(api: httpx.AsyncClient) -> None:
    """Proves X1 and S1."""
    path = await new_draft(api)

    for body, found in WRONG_TURNS:
        answer = await patch(api, path, body)
        assert answer.status_code == 422, answer.text
        assert set(pointers(answer)) == found, body

    assert (await api.get(path)).headers["etag"] == '"1"'


async def test_a_source_is_no_destination_and_objects_are_those_of_the_catalogue(
    api: httpx.AsyncClient,
) -> None:
    path = await new_draft(api)
    source, destination = await connect_hubspot(api), await connect_brevo(api)

    swapped = await patch(
        api,
        path,
        {"source": {"connection_id": destination}, "destination": {"connection_id": source}},
    )
    rockets = await patch(api, path, {"source": {"connection_id": source, "object": "rockets"}})

    assert codes(swapped) == ["no_source", "no_destination"]
    assert codes(rockets) == ["unknown_object"]


async def test_lists_are_looked_up_at_the_providers(served: Served, api: httpx.AsyncClient) -> None:
    """Proves W3 and W6."""
    filled = await served.control(
        "hubspot", "POST", "contacts:fill", {"count": 5, "seed": 1, "list": "Newsletter"}
    )
    path = await new_draft(api)
    source, destination = await connect_hubspot(api), await connect_brevo(api)
    chosen = {"connection_id": source, "object": "contacts"}

    wrong = await patch(
        api,
        path,
        {
            "source": {**chosen, "list_id": "999999"},
            "destination": {"connection_id": destination, "list_id": "999999"},
        },
    )
    right = await patch(api, path, {"source": {**chosen, "list_id": str(filled["list_id"])}})
    taken_back = await patch(api, path, {"source": {"list_id": None}})

    assert pointers(wrong) == ["/source/list_id", "/destination/list_id"]
    assert right.json()["source"]["list_name"] == "Newsletter"
    assert taken_back.json()["source"]["list_name"] is None


async def test_a_hubspot_list_must_be_chosen(api: httpx.AsyncClient) -> None:
    """Proves W3: there is no choice of all contacts."""
    path = await new_draft(api)
    source = {"connection_id": await connect_hubspot(api), "object": "contacts"}
    await edit(api, "PATCH", path, {"source": source})

    steps = (await api.get(f"{path}/checklist")).json()["steps"]

    [open_] = [each["errors"] for each in steps if each["step"] == "source"]
    assert [each["code"] for each in open_] == ["source_list_missing"]


async def test_the_same_list_id_in_another_account_is_another_list(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves W6."""
    draft = await make_draft(served, api)
    list_id = (await api.get(draft.path)).json()["destination"]["list_id"]
    second = await served.control("brevo", "POST", "accounts", {"name": "second"})
    other = await connect_brevo(api, second["api_key"])
    there = (await api.get(f"/v1/connections/{other}/lists")).json()["items"]

    refused = await patch(
        api, draft.path, {"destination": {"connection_id": other, "list_id": list_id}}
    )

    assert list_id not in {each["id"] for each in there}
    assert (refused.status_code, pointers(refused)) == (422, ["/destination/list_id"])


async def test_another_connection_takes_the_list_along(
    served: Served, api: httpx.AsyncClient
) -> None:
    draft = await make_draft(served, api)
    source, destination = await connect_hubspot(api), await connect_brevo(api)

    changed = await edit(
        api,
        "PATCH",
        draft.path,
        {"source": {"connection_id": source}, "destination": {"connection_id": destination}},
    )

    assert changed["source"] == {
        "connection_id": source,
        "object": None,
        "list_id": None,
        "list_name": None,
    }
    assert changed["destination"]["list_id"] is None


async def test_a_list_cannot_be_looked_up_before_the_object_is_chosen(
    api: httpx.AsyncClient,
) -> None:
    path = await new_draft(api)

    answer = await patch(
        api, path, {"source": {"connection_id": await connect_hubspot(api), "list_id": "1"}}
    )
    without = await patch(api, path, {"destination": {"list_id": "1"}})

    assert (answer.status_code, codes(answer)) == (409, ["source_missing"])
    assert (without.status_code, codes(without)) == (409, ["destination_missing"])


async def test_a_mapping_needs_both_accounts_first(api: httpx.AsyncClient) -> None:
    path = await new_draft(api)

    answer = await api.put(f"{path}/mapping", json={"fields": FIELDS}, headers={"if-match": "*"})

    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


async def test_a_mapping_that_makes_no_sense_is_not_saved(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves W5."""
    draft = await make_draft(served, api)

    answer = await api.put(
        f"{draft.path}/mapping",
        json={
            "fields": [
                {"source": "firstname", "destination": "FIRSTNAME"},
                {"source": "nothing", "destination": "LASTNAME"},
            ]
        },
        headers={"if-match": "*"},
    )

    assert answer.status_code == 422
    assert codes(answer) == ["unknown_field", "identity_missing"]
    assert (await api.get(f"{draft.path}/mapping")).json()["version"] == 1


async def test_mapping_versions_never_change(served: Served, api: httpx.AsyncClient) -> None:
    draft = await make_draft(served, api)
    same = await edit(api, "PUT", f"{draft.path}/mapping", {"fields": FIELDS}, resource=draft.path)
    fewer = await edit(
        api, "PUT", f"{draft.path}/mapping", {"fields": FIELDS[:1]}, resource=draft.path
    )

    versions = (await api.get(f"{draft.path}/mapping/versions?page_size=1")).json()
    older = (
        await api.get(
            f"{draft.path}/mapping/versions",
            params={"page_size": 1, "page_token": versions["next_page_token"]},
        )
    ).json()

    assert (same["version"], fewer["version"]) == (1, 2)
    assert versions["items"][0]["version"] == 2
    assert [each["source"] for each in older["items"][0]["fields"]] == [
        each["source"] for each in FIELDS
    ]


async def test_before_the_first_mapping_there_is_none(api: httpx.AsyncClient) -> None:
    path = await new_draft(api)

    assert (await api.get(f"{path}/mapping")).status_code == 404


async def test_the_cost_of_a_change_is_known_before_and_after(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves Q6: a removed field costs nothing, an added one at most a task a contact."""
    draft = await activated(served, api)
    more = [*FIELDS, {"source": "lastname", "destination": "LASTNAME"}]

    asked = await api.post(f"{draft.path}/mapping:check", json={"fields": more})
    unchanged = (await api.get(f"{draft.path}/mapping")).json()["version"]
    added = await edit(api, "PUT", f"{draft.path}/mapping", {"fields": more}, resource=draft.path)
    wanted = await schedule_of(sessions)
    removed = await edit(
        api, "PUT", f"{draft.path}/mapping", {"fields": FIELDS}, resource=draft.path
    )

    assert asked.json() == {"cost": {"full_run": True, "tasks_at_most": 20}}
    assert unchanged == 1
    assert added["cost"] == {"full_run": True, "tasks_at_most": 20}
    assert (wanted["wanted_mode"], wanted["wanted_mapping_version"]) == ("full", 2)
    assert removed["cost"] == {"full_run": False, "tasks_at_most": 0}


async def test_criteria_are_part_of_the_mapping_version(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves S11."""
    draft = await make_draft(served, api)
    criteria = {
        "match": "all",
        "conditions": [
            {"field": "city", "operator": "contains", "value": "Berlin"},
            {"field": "email", "operator": "is_set"},
        ],
    }

    changed = await edit(api, "PATCH", draft.path, {"criteria": criteria})
    kept = await edit(
        api, "PUT", f"{draft.path}/mapping", {"fields": FIELDS[:1]}, resource=draft.path
    )
    taken_back = await edit(api, "PATCH", draft.path, {"criteria": None})

    assert changed["mapping_version"] == 2
    assert [each["field"] for each in changed["criteria"]["conditions"]] == ["city", "email"]
    assert kept["criteria"] == changed["criteria"]
    assert (taken_back["mapping_version"], taken_back["criteria"]) == (4, None)


async def test_criteria_that_decide_nothing_are_refused(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves S11."""
    draft = await make_draft(served, api)

    answer = await patch(
        api,
        draft.path,
        {
            "criteria": {
                "match": "any",
                "conditions": [{"field": "nothing", "operator": "equals", "value": "x"}],
            }
        },
    )

    assert pointers(answer) == ["/criteria/conditions/0/field"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("NaN", "value_expected"),
        ("1e999", "value_expected"),
        ("true", "value_expected"),
        ('{"a": 1}', "value_expected"),
        ('"a\\u0000"', "not_storable"),
        ('"\\ud800"', "not_storable"),
    ],
)
async def test_a_value_that_no_condition_can_have_is_refused(
    api: httpx.AsyncClient, value: str, code: str
) -> None:
    """Proves S11 and X1."""
    path = await new_draft(api)
    condition = '{"field": "city", "operator": "equals", "value": %s}'
    body = f'{{"criteria": {{"match": "all", "conditions": [{condition % value}]}}}}'

    answer = await api.patch(
        path, content=body, headers={"if-match": "*", "content-type": "application/json"}
    )

    assert (answer.status_code, codes(answer)) == (422, [code])
    assert pointers(answer) == ["/criteria/conditions/0/value"]


async def test_an_id_that_is_not_even_text_is_refused(api: httpx.AsyncClient) -> None:
    """Proves X1."""
    answer = await api.patch(
        await new_draft(api),
        content=r'{"source": {"connection_id": "\ud800"}}',
        headers={"if-match": "*", "content-type": "application/json"},
    )

    assert (answer.status_code, pointers(answer)) == (422, ["/source/connection_id"])


async def test_criteria_may_come_before_the_fields(api: httpx.AsyncClient) -> None:
    path = await new_draft(api)
    source = {"connection_id": await connect_hubspot(api), "object": "contacts"}
    await edit(api, "PATCH", path, {"source": source})
    criteria = {"match": "all", "conditions": [{"field": "city", "operator": "is_set"}]}

    changed = await edit(api, "PATCH", path, {"criteria": criteria})
    checklist = (await api.get(f"{path}/checklist")).json()

    assert changed["mapping_version"] == 1
    assert {step["step"]: step["state"] for step in checklist["steps"]}["mapping"] == "missing"


async def test_nothing_activates_without_the_opt_in(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves W4."""
    draft = await make_draft(served, api)
    await edit(api, "PATCH", draft.path, {"opt_in": {"accepted": False}})

    answer = await api.post(f"{draft.path}:activate", headers={"if-match": "*"})

    assert (answer.status_code, answer.json()["code"]) == (422, "not_ready")
    assert answer.json()["errors"] == [
        {
            "pointer": "/opt_in/accepted",
            "code": "opt_in_missing",
            "detail": "Confirm that these contacts agreed to receive e-mails from you.",
            "rule": "W4",
        }
    ]
    assert await schedule_of(sessions) == {}


async def test_one_problem_lists_everything_that_is_open(api: httpx.AsyncClient) -> None:
    """Proves X1."""
    path = await new_draft(api)

    answer = await api.post(f"{path}:activate", headers={"if-match": "*"})
    checklist = (await api.get(f"{path}/checklist")).json()

    open_ = [error for step in checklist["steps"] for error in step["errors"]]
    assert set(pointers(answer)) == {
        "/source/connection_id",
        "/opt_in/accepted",
        "/destination/connection_id",
        "/mapping/fields",
    }
    assert [error["code"] for error in open_] == codes(answer)
    assert not checklist["ready"]


async def test_activating_starts_with_a_full_run(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves W7 and S1."""
    draft = await make_draft(served, api)
    saved_without = await schedule_of(sessions)
    without = await api.post(f"{draft.path}:activate")

    active = await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)
    again = await api.post(f"{draft.path}:activate", headers={"if-match": "*"})

    assert saved_without == {}
    assert without.status_code == 428
    assert active["state"] == "active"
    assert active["activated_at"] is not None
    assert await schedule_of(sessions) == {
        "is_active": True,
        "wanted_mode": "full",
        "wanted_mapping_version": 1,
        "interval_minutes": 30,
    }
    assert (again.status_code, again.json()["state"]) == (409, "active")


async def test_a_complete_draft_is_not_synced_until_it_is_activated(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves W7: whatever is edited, a draft stays one until somebody activates it."""
    draft = await make_draft(served, api)
    await edit(api, "PATCH", draft.path, {"interval_minutes": 15, "default_country": "DE"})
    await edit(api, "PUT", f"{draft.path}/mapping", {"fields": FIELDS[:1]}, resource=draft.path)
    ready = (await api.get(f"{draft.path}/checklist")).json()["ready"]
    kept = (await api.get(draft.path)).json()
    before = await schedule_of(sessions)

    later = await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)

    assert ready
    assert (kept["state"], kept["status"], before) == ("draft", "draft", {})
    assert later["state"] == "active"


async def test_a_new_draft_has_the_defaults_of_the_rules(api: httpx.AsyncClient) -> None:
    """Proves S1, S4 and S5: every 30 minutes, nobody is removed, one address at a time moves."""
    shown = (await api.get(await new_draft(api))).json()

    assert (shown["interval_minutes"], shown["deletion_policy"]) == (30, "keep")
    assert shown["email_change_policy"] == "single"


async def test_other_criteria_have_everybody_read_anew(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves S11: a change of criteria is one of the mapping, also where it is taken back."""
    draft = await activated(served, api)
    found = []
    conditions = [{"field": "city", "operator": "is_set"}]
    for criteria in ({"match": "all", "conditions": conditions}, None):
        async with sessions.begin() as session:
            await session.execute(text("update sync.schedules set wanted_mode = 'changes'"))
        await edit(api, "PATCH", draft.path, {"criteria": criteria})
        wanted = await schedule_of(sessions)
        found.append((wanted["wanted_mode"], wanted["wanted_mapping_version"]))

    assert found == [("full", 2), ("full", 3)]


async def test_activation_asks_whether_lists_and_fields_are_still_there(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    draft = await make_draft(served, api)
    async with sessions.begin() as session:
        chosen = await session.scalar(text("select source_list_id from config.integrations"))
        await session.execute(
            text(
                "update config.integrations set source_list_id = '999', destination_list_id = '999'"
            )
        )
    gone = await api.post(f"{draft.path}:activate", headers={"if-match": "*"})
    async with sessions.begin() as session:
        await session.execute(
            text(
                "update config.integrations set source_list_id = :chosen,"
                " destination_list_id = :list"
            ),
            {
                "chosen": chosen,
                "list": (await api.get(f"/v1/connections/{draft.destination}/lists")).json()[
                    "items"
                ][-1]["id"],
            },
        )
        await session.execute(
            text(
                "update config.field_mappings set fields ="
                ' \'[{"source": "email", "destination": "GONE"}]\'::jsonb'
            )
        )
    unmapped = await api.post(f"{draft.path}:activate", headers={"if-match": "*"})

    assert pointers(gone) == ["/source/list_id", "/destination/list_id"]
    assert pointers(unmapped) == ["/mapping/fields/0/destination", "/mapping/fields"]


@pytest.mark.parametrize(
    ("provider", "path", "pointer"),
    [
        ("hubspot", "/crm/lists", "/source/connection_id"),
        ("brevo", "/contacts/lists", "/destination/connection_id"),
    ],
)
async def test_activation_says_which_account_no_longer_lets_us_in(
    served: Served, api: httpx.AsyncClient, provider: str, path: str, pointer: str
) -> None:
    draft = await make_draft(served, api)
    body = {"status": "error", "category": "INVALID_AUTHENTICATION", "code": "unauthorized"}
    await served.fail(provider, "GET", path, kind="status", status=401, times=9, body=body)

    answer = await api.post(f"{draft.path}:activate", headers={"if-match": "*"})

    assert answer.json()["code"] == "not_ready"
    assert codes(answer) == ["connection_needs_reauth"]
    assert pointers(answer) == [pointer]


async def test_a_provider_in_trouble_postpones_the_activation(
    served: Served, api: httpx.AsyncClient
) -> None:
    draft = await make_draft(served, api)
    await served.fail("hubspot", "GET", "/crm/lists", kind="status", status=503)

    answer = await api.post(f"{draft.path}:activate", headers={"if-match": "*"})

    assert (answer.status_code, answer.json()["code"]) == (502, "provider_unavailable")
    assert (await api.get(draft.path)).json()["state"] == "draft"


async def test_an_integration_is_paused_and_resumed(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves W8."""
    draft = await activated(served, api)
    async with sessions.begin() as session:
        await session.execute(text("update sync.schedules set wanted_mode = 'changes'"))

    stale = await api.post(f"{draft.path}:pause", headers={"if-match": '"1"'})
    paused = await api.post(f"{draft.path}:pause")
    while_paused = await schedule_of(sessions)
    twice = await api.post(f"{draft.path}:pause")
    resumed = await api.post(f"{draft.path}:resume")
    too_often = await api.post(f"{draft.path}:resume")
    after = await schedule_of(sessions)

    assert stale.status_code == 412
    assert paused.json()["state"] == "paused"
    assert while_paused["is_active"] is False
    assert twice.status_code == 409
    assert resumed.json()["state"] == "active"
    assert too_often.status_code == 409
    assert (after["is_active"], after["wanted_mode"]) == (True, "changes")


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        (FIELDS[:1], "changes"),
        ([*FIELDS, {"source": "lastname", "destination": "LASTNAME"}], "full"),
    ],
)
async def test_a_mapping_changed_while_paused_counts_when_resumed(
    served: Served,
    api: httpx.AsyncClient,
    sessions: SessionMaker,
    fields: list[dict[str, str]],
    mode: str,
) -> None:
    draft = await activated(served, api)
    async with sessions.begin() as session:
        await session.execute(text("update sync.schedules set wanted_mode = 'changes'"))
    await api.post(f"{draft.path}:pause")
    await edit(api, "PUT", f"{draft.path}/mapping", {"fields": fields}, resource=draft.path)
    while_paused = await schedule_of(sessions)

    await api.post(f"{draft.path}:resume")

    assert while_paused["is_active"] is False
    assert (await schedule_of(sessions))["wanted_mode"] == mode


async def test_an_error_is_mended_by_resuming(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves W8: the list shows the error, and that it is over."""
    draft = await activated(served, api)
    async with sessions.begin() as session:
        await session.execute(
            text(
                "select config.report_integration(integration_id, 'list_missing')"
                " from config.integrations"
            )
        )
    broken = (await api.get(draft.path)).json()

    resumed = await api.post(f"{draft.path}:resume")

    assert (broken["status"], broken["status_reason"]) == ("error", "list_missing")
    assert (resumed.json()["status"], resumed.json()["status_reason"]) == ("active", None)


async def test_an_active_integration_is_edited(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves W8."""
    draft = await activated(served, api)
    async with sessions.begin() as session:
        await session.execute(text("update sync.schedules set wanted_mode = 'changes'"))

    await edit(api, "PATCH", draft.path, {"interval_minutes": 15, "deletion_policy": "keep"})
    interval = await schedule_of(sessions)
    await edit(api, "PATCH", draft.path, {"default_country": "DE"})
    country = await schedule_of(sessions)

    assert (interval["interval_minutes"], interval["wanted_mode"]) == (15, "changes")
    assert country["wanted_mode"] == "full"


async def test_what_is_synced_is_fixed_once_it_was_active(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves W4: nor does anything run on without the opt-in."""
    draft = await activated(served, api)

    answer = await patch(
        api,
        draft.path,
        {
            "source": {"list_id": None},
            "destination": {"list_id": "999"},
            "opt_in": {"accepted": False},
        },
    )

    assert codes(answer) == ["fixed_after_activation"] * 2 + ["opt_in_needed"]


async def test_a_deleted_integration_is_archived(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves W8."""
    draft = await activated(served, api)
    integration_id = ids.parse(Prefix.INTEGRATION, draft.id)
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode,"
                " mapping_version, fencing) select :run, integration_id, workspace_id, 1, 'full',"
                " 1, 1 from config.integrations"
            ),
            {"run": ids.run_id(integration_id, 1)},
        )

    stale = await api.delete(draft.path, headers={"if-match": '"1"'})
    deleted = await api.delete(draft.path)
    again = await api.delete(draft.path)
    shown = (await api.get(draft.path)).json()
    change = await patch(api, draft.path, {"name": "two"})
    listed = (await api.get("/v1/integrations")).json()["items"]
    archived = (await api.get("/v1/integrations?state=archived")).json()["items"]

    assert [stale.status_code, deleted.status_code, again.status_code] == [412, 204, 204]
    assert shown["state"] == "archived"
    assert shown["last_run"]["state"] == "cancelled"
    assert change.status_code == 409
    assert listed == []
    assert [each["id"] for each in archived] == [draft.id]
    assert (await schedule_of(sessions))["is_active"] is False


async def test_a_used_up_quota_shows_on_every_active_integration(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves Q3 and Q5: computed when read, so a raised limit shows at once."""
    draft = await activated(served, api)
    tag = (await api.get(draft.path)).headers["etag"]
    workspace = (await served_workspaces(served))[0]

    await set_limit(served, workspace, 0)
    stopped = await api.get(draft.path)
    await set_limit(served, workspace, 100)
    going = await api.get(draft.path)

    assert (stopped.json()["state"], stopped.json()["status"]) == ("active", "stopped_quota")
    assert going.json()["status"] == "active"
    assert stopped.headers["etag"] == going.headers["etag"] == tag


async def served_workspaces(served: Served) -> list[str]:
    async with served.caller(served.operator_key) as operator:
        return [each["id"] for each in (await operator.get("/v1/workspaces")).json()["items"]]


async def set_limit(served: Served, workspace: str, limit: int) -> None:
    async with served.caller(served.operator_key) as operator:
        done = await operator.put(f"/v1/workspaces/{workspace}/quota", json={"limit": limit})
    assert done.status_code == 200


async def test_a_blocked_destination_shows_as_degraded(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    draft = await activated(served, api)
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into delivery.destinations (connection_id, workspace_id, blocked_until,"
                " block_reason) select destination_connection_id, workspace_id,"
                " now() + interval '1 hour', 'rate_limited' from config.integrations"
            )
        )

    shown = (await api.get(draft.path)).json()

    assert (shown["status"], shown["status_reason"]) == ("degraded", "rate_limited")


@pytest.mark.parametrize(
    ("waits_s", "code", "status"),
    [
        (3600, "rate_limited", ("degraded", "source_rate_limited")),
        (10, "rate_limited", ("active", None)),
        (3600, "source_down", ("active", None)),
    ],
)
async def test_a_source_whose_calls_are_used_up_shows_as_degraded(
    served: Served,
    api: httpx.AsyncClient,
    sessions: SessionMaker,
    waits_s: int,
    code: str,
    status: tuple[str, str | None],
) -> None:
    """Proves S10 in part: a day that is over is told; a second that is full is no news."""
    draft = await activated(served, api)
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode,"
                " mapping_version, fencing, error_code)"
                " select gen_random_uuid(), integration_id, workspace_id, 1, 'full', 1, 1, :code"
                " from sync.schedules"
            ),
            {"code": code},
        )
        await session.execute(
            text(
                "update sync.schedules set run_no = 1, resume_at = now() + :waits * '1s'::interval"
            ),
            {"waits": waits_s},
        )

    shown = (await api.get(draft.path)).json()

    assert (shown["status"], shown["status_reason"]) == status


async def test_the_list_has_pages(api: httpx.AsyncClient) -> None:
    names = ["a", "b", "c"]
    for name in names:
        await api.post("/v1/integrations", json={"name": name})

    first = (await api.get("/v1/integrations?page_size=2")).json()
    second = (
        await api.get("/v1/integrations", params={"page_token": first["next_page_token"]})
    ).json()

    assert [each["name"] for each in first["items"] + second["items"]] == names


async def test_two_changes_at_the_same_moment_are_one(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves X1: of two people who read the same version, one must look again."""
    draft = await make_draft(served, api)
    tag = {"if-match": (await api.get(draft.path)).headers["etag"]}
    calls = [
        api.put(f"{draft.path}/mapping", json={"fields": FIELDS[:number]}, headers=tag)
        for number in (1, 2)
    ]

    answers = await asyncio.gather(*calls)

    assert sorted(answer.status_code for answer in answers) == [200, 412]
