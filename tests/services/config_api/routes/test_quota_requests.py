"""/v1/quota/requests and /v1/quota-requests: asking for more, and the operator's decision."""

from typing import Any

import httpx

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api.routes.quota_requests import LIMIT_MAX
from tests.services.config_api.served import Served, codes, pointers

Json = dict[str, Any]
REQUESTS = "/v1/quota/requests"
QUEUE = "/v1/quota-requests"


async def ask(api: httpx.AsyncClient, limit: int = 250_000, reason: str = "Growth") -> Json:
    answer = await api.post(REQUESTS, json={"limit": limit, "reason": reason})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def actions(api: httpx.AsyncClient, subject: str) -> list[tuple[str, str]]:
    """Return what was done to a request and by whom, oldest first."""
    events = (await api.get("/v1/audit-events", params={"subject": subject})).json()["items"]
    return [(event["action"], event["actor"]) for event in reversed(events)]


async def test_a_request_is_made_and_read(api: httpx.AsyncClient) -> None:
    """Proves Q4."""
    made = await api.post(
        REQUESTS, json={"limit": 250_000, "reason": "  We merge.\nIn December.  "}
    )
    body = made.json()

    assert made.status_code == 201
    assert (await api.get(made.headers["location"])).json() == body
    assert (body["state"], body["limit"], body["limit_then"]) == ("open", 250_000, 100_000)
    assert body["reason"] == "We merge.\nIn December."
    assert body["decision"] is None
    assert (await api.get("/v1/quota")).json()["open_request"] == body
    assert await actions(api, body["id"]) == [("quota_request.opened", body["asked_by"])]


async def test_a_request_that_is_sent_twice_is_made_once(api: httpx.AsyncClient) -> None:
    """Proves X2."""
    key = {"idempotency-key": "ask-1"}
    wish = {"limit": 250_000, "reason": "Growth"}

    first = await api.post(REQUESTS, json=wish, headers=key)
    again = await api.post(REQUESTS, json=wish, headers=key)

    assert (first.status_code, again.json()) == (201, first.json())
    assert len((await api.get(REQUESTS)).json()["items"]) == 1


async def test_a_second_open_request_is_told_of_the_first(api: httpx.AsyncClient) -> None:
    """Proves Q4 and X1: which one is open, and what to do."""
    first = await ask(api)

    second = await api.post(REQUESTS, json={"limit": 300_000, "reason": "More"})
    problem = second.json()

    assert (second.status_code, problem["code"]) == (409, "quota_request_open")
    assert problem["request_id"] == first["id"]
    assert "250000" in problem["detail"]
    withdrawn = await api.post(problem["withdraw_url"])
    assert withdrawn.json()["state"] == "withdrawn"
    assert (await ask(api, 300_000))["limit"] == 300_000


async def test_an_absurd_request_is_refused(api: httpx.AsyncClient) -> None:
    """Proves Q4 and X1: where it is wrong is said, and nothing is done."""
    good = {"limit": 250_000, "reason": "Growth"}
    limits = (-5, 0, LIMIT_MAX + 1, "many", 1.5, True, None)
    reasons = ("", "   ", "x" * 1001, "a\x00b", "a\x1bb", 7, None)
    wrong = [
        *(({**good, "limit": limit}, "/limit") for limit in limits),
        *(({**good, "reason": reason}, "/reason") for reason in reasons),
        ({**good, "state": "granted"}, "/state"),
    ]

    for wish, pointer in wrong:
        answer = await api.post(REQUESTS, json=wish)
        assert (answer.status_code, pointers(answer)) == (422, [pointer]), wish
    assert (await api.get(REQUESTS)).json()["items"] == []


async def test_a_request_is_for_more_than_there_is(api: httpx.AsyncClient) -> None:
    """Proves Q4 and X1."""
    for limit in (1, 99_999, 100_000):
        answer = await api.post(REQUESTS, json={"limit": limit, "reason": "Growth"})

        assert (answer.status_code, pointers(answer)) == (422, ["/limit"])
        assert codes(answer) == ["limit_not_above"]
        assert "100000 tasks a month are in force" in answer.json()["detail"]
    assert (await api.get(REQUESTS)).json()["items"] == []


async def test_a_grant_is_in_force_at_once(served: Served, operator: httpx.AsyncClient) -> None:
    """Proves Q4: that limit from now on, recorded with who decided."""
    made = await served.make_workspace(quota_limit=0)
    async with served.caller(made["api_key"]["secret"]) as api:
        request = await ask(api, 250_000)
        stopped = (await api.get("/v1/quota")).json()["state"]

        granted = await operator.post(f"{QUEUE}/{request['id']}:grant")

        quota = (await api.get("/v1/quota")).json()
        seen = (await api.get(f"{REQUESTS}/{request['id']}")).json()
        recorded = await actions(api, request["id"])
    decision = granted.json()["decision"]
    assert (stopped, quota["state"], quota["limit"]) == ("stopped", "open", 250_000)
    assert (quota["standing_limit"], quota["open_request"]) == (None, None)
    assert (granted.status_code, granted.json()["workspace_id"]) == (200, made["id"])
    assert (decision["limit"], decision["validity"]) == (250_000, "from_now_on")
    assert (seen["state"], seen["decision"]) == ("granted", decision)
    assert recorded[1] == ("quota_request.granted", decision["by"])


async def test_another_limit_may_be_granted_for_this_month_only(
    api: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """Proves Q4."""
    request = await ask(api)

    granted = await operator.post(
        f"{QUEUE}/{request['id']}:grant",
        json={"limit": 150_000, "validity": "this_month", "words": "For Christmas."},
    )

    quota = (await api.get("/v1/quota")).json()
    decision = granted.json()["decision"]
    assert (quota["limit"], quota["standing_limit"]) == (150_000, 100_000)
    assert (decision["validity"], decision["period"]) == ("this_month", quota["period"])
    assert (decision["limit"], decision["words"]) == (150_000, "For Christmas.")


async def test_a_request_is_declined_with_words(
    api: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """Proves Q4."""
    request = await ask(api)

    wordless = await operator.post(f"{QUEUE}/{request['id']}:decline", json={"words": " "})
    declined = await operator.post(f"{QUEUE}/{request['id']}:decline", json={"words": "Call us."})

    seen = (await api.get(f"{REQUESTS}/{request['id']}")).json()
    assert (wordless.status_code, pointers(wordless)) == (422, ["/words"])
    assert declined.status_code == 200
    assert (seen["state"], seen["decision"]["words"]) == ("declined", "Call us.")
    assert (seen["decision"]["limit"], seen["decision"]["validity"]) == (None, None)
    assert (await api.get("/v1/quota")).json()["limit"] == 100_000
    assert (await actions(api, request["id"]))[1][0] == "quota_request.declined"


async def test_what_was_decided_is_not_decided_again(
    api: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """Proves Q4 and X1."""
    request = await ask(api)
    await operator.post(f"{QUEUE}/{request['id']}:grant")

    late = [
        await operator.post(f"{QUEUE}/{request['id']}:grant"),
        await operator.post(f"{QUEUE}/{request['id']}:decline", json={"words": "No."}),
        await api.post(f"{REQUESTS}/{request['id']}:withdraw"),
    ]

    assert {answer.status_code for answer in late} == {409}
    assert {answer.json()["state"] for answer in late} == {"granted"}
    assert len(await actions(api, request["id"])) == 2


async def test_a_grant_that_is_sent_twice_is_one(
    api: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """Proves X2."""
    request = await ask(api)
    key = {"idempotency-key": "grant-1"}

    first = await operator.post(f"{QUEUE}/{request['id']}:grant", headers=key)
    again = await operator.post(f"{QUEUE}/{request['id']}:grant", headers=key)

    assert (again.status_code, again.json()) == (200, first.json())


async def test_an_absurd_grant_is_refused(
    api: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """Proves X1: nothing is half done."""
    request = await ask(api)
    wrong: list[tuple[Json, str]] = [
        ({"limit": -1}, "/limit"),
        ({"limit": LIMIT_MAX + 1}, "/limit"),
        ({"limit": 100_000}, "/limit"),
        ({"validity": "for ever"}, "/validity"),
        ({"words": "x" * 1001}, "/words"),
        ({"for_ever": True}, "/for_ever"),
    ]

    for grant, pointer in wrong:
        answer = await operator.post(f"{QUEUE}/{request['id']}:grant", json=grant)
        assert (answer.status_code, pointers(answer)) == (422, [pointer]), grant
    assert (await api.get(f"{REQUESTS}/{request['id']}")).json() == request


async def test_the_operator_sees_who_has_waited_longest(
    served: Served, operator: httpx.AsyncClient
) -> None:
    asked = []
    for name in ("a", "b", "c"):
        made = await served.make_workspace(name=name)
        async with served.caller(made["api_key"]["secret"]) as api:
            asked.append((made["id"], (await ask(api))["id"]))
    await operator.post(f"{QUEUE}/{asked[0][1]}:decline", json={"words": "No."})

    first = (await operator.get(f"{QUEUE}?page_size=2")).json()
    second = (await operator.get(QUEUE, params={"page_token": first["next_page_token"]})).json()
    waiting = (await operator.get(f"{QUEUE}?state=open")).json()["items"]
    one = (await operator.get(QUEUE, params={"workspace_id": asked[1][0]})).json()["items"]

    shown = [(each["workspace_id"], each["id"]) for each in first["items"] + second["items"]]
    assert shown == asked
    assert second["next_page_token"] is None
    assert [each["workspace_name"] for each in waiting] == ["b", "c"]
    assert [each["id"] for each in one] == [asked[1][1]]
    assert (await operator.get(f"{QUEUE}/{asked[1][1]}")).json() == one[0]
    assert (await operator.get(f"{QUEUE}?workspace_id=ws_1")).status_code == 422
    assert (await operator.get(f"{QUEUE}?state=lost")).status_code == 422


async def test_a_workspace_lists_its_own_newest_first(api: httpx.AsyncClient) -> None:
    made = []
    for limit in (200_000, 300_000):
        made.append(await ask(api, limit))
        await api.post(f"{REQUESTS}/{made[-1]['id']}:withdraw")
    made.append(await ask(api, 400_000))

    first = (await api.get(f"{REQUESTS}?page_size=2")).json()
    second = (await api.get(REQUESTS, params={"page_token": first["next_page_token"]})).json()
    open_ones = (await api.get(f"{REQUESTS}?state=open")).json()["items"]

    shown = [each["limit"] for each in first["items"] + second["items"]]
    assert shown == [400_000, 300_000, 200_000]
    assert open_ones == [made[-1]]


async def test_nobody_sees_or_decides_what_is_not_his(
    served: Served, api: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """Proves Q4 and X3: an operator alone decides."""
    request = await ask(api)
    other = await served.make_workspace(name="Other")

    async with served.caller(other["api_key"]["secret"]) as stranger:
        read = await stranger.get(f"{REQUESTS}/{request['id']}")
        taken_back = await stranger.post(f"{REQUESTS}/{request['id']}:withdraw")
        listed = (await stranger.get(REQUESTS)).json()["items"]
        decided = await stranger.post(f"{QUEUE}/{request['id']}:grant")

    assert [read.status_code, taken_back.status_code, decided.status_code] == [404, 404, 403]
    assert listed == []
    unknown = ids.show(Prefix.QUOTA_REQUEST, ids.new())
    assert (await operator.post(f"{QUEUE}/{unknown}:grant")).status_code == 404
    assert (await operator.get(f"{QUEUE}/req_1")).status_code == 404
    assert (await api.get(f"{REQUESTS}/{request['id']}")).json()["state"] == "open"
