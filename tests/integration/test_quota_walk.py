"""The quota as its user meets it, through the API alone, while every service really runs.

Near the limit, told so; stopped, told so; asking for more; granted; going on by itself; caught up;
and in the end each task that was counted stands in the ledger.
"""

import asyncio
import csv
import io
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from local import stack
from local.api import Json
from local.errors import StackError
from local.stack import Options
from tests.integration import oracle
from tests.integration.scene import Deaths, Scene, Way, set_up

# Few enough that everything goes by single upserts. 42 of 50 are more than 80 %.
CONTACTS, LIMIT = 42, 50
MORE = 20  # Of these 8 are written, and 12 wait.
MEANWHILE = 5  # Come while everything has stopped.
WANTED, GRANTED = 500, 200

LOOK_EVERY_S = 0.2
WITHIN_S = 60.0  # For what takes seconds on a machine that does nothing else.
# Q4: who waits goes on with the grant, and not when the writer looks at everything that waits.
WRITER = {"DRAIN_EVERY_S": "3600"}

T = TypeVar("T")


@pytest.mark.timeout(900)
async def test_from_near_the_limit_to_caught_up(tmp_path: Path, embedded: None) -> None:
    """Proves Q1 to Q6 and W8: what happened can be read, and every task is accounted for."""
    deaths = Deaths()
    # The services' own times otherwise: Q4 is about them.
    options = Options(tmp_path, durable=False, environments={"writer": WRITER})
    async with (
        stack.running(options, deaths.hear) as running,
        set_up(running, ways=1, contacts=CONTACTS, quota=LIMIT, seed=3) as scene,
    ):
        [way] = scene.ways
        await come_near(scene, way)
        await be_stopped(scene, way)
        request = await ask_for_more(scene)
        await be_granted(scene, way, request)
        await catch_up(scene)
        await account_for_every_task(scene, way)
        problems = await oracle.problems(scene)

    assert problems == []
    assert deaths.others == []


async def come_near(scene: Scene, way: Way) -> None:
    """Q2: over 80 %, one mail says so, and the API says what will happen."""
    before = await scene.quota()
    await scene.activate()
    await until(lambda: last_run(scene, way), lambda run: run["state"] == "complete")

    near = await scene.quota()
    await until(lambda: mails(scene), lambda kinds: kinds["quota_80"] >= 1)

    assert (before["next"]["code"], before["used"]) == ("goes_on", 0)
    assert LIMIT * 0.8 <= near["used"] < LIMIT
    assert near["state"] == "open"
    now = datetime.now(UTC)
    # Of a day's use a fifth is left. On a month's last day the quota may outlast it.
    if (now + timedelta(days=1)).month == now.month:
        assert near["next"]["code"] == "will_stop"
        assert near["forecast"]["exhausted_at"] is not None
    assert await mails(scene) == {"quota_80": 1}


async def be_stopped(scene: Scene, way: Way) -> None:
    """Q1 and Q3: exactly the limit is written, the rest waits, and one mail says so."""
    await scene.source.invite([f"late-{n}@example.com" for n in range(MORE)], name=way.source_list)
    await scene.ask_for_runs()

    stopped = await until(scene.quota, lambda quota: quota["state"] == "stopped")
    waiting = CONTACTS + MORE - LIMIT
    await until(lambda: parked(scene, way), lambda found: len(found) == waiting)
    await until(lambda: mails(scene), lambda kinds: kinds["quota_100"] >= 1)
    stopped = await until(scene.quota, lambda quota: quota["held"] == 0)

    listed = await scene.api.get(way.path)
    assert (stopped["used"], stopped["left"]) == (LIMIT, 0)
    assert stopped["next"]["code"] == "resumes_next_month"
    assert stopped["resumes_at"] is not None
    assert listed["status"] == "stopped_quota"
    assert {contact["reason"] for contact in await parked(scene, way)} == {"quota"}
    assert await mails(scene) == {"quota_80": 1, "quota_100": 1}


async def ask_for_more(scene: Scene) -> Json:
    """Q4: less than there is, or twice, is refused with what to do; the request is there to see."""
    for limit in (-1, LIMIT, 10**15):
        with pytest.raises(StackError, match=r'"pointer":"/limit"'):
            await scene.api.post("/v1/quota/requests", {"limit": limit, "reason": "More"})
    request = await scene.api.post("/v1/quota/requests", {"limit": WANTED, "reason": "We grow."})
    with pytest.raises(StackError, match=f"quota_request_open.*{request['id']}"):
        await scene.api.post("/v1/quota/requests", {"limit": WANTED, "reason": "Now!"})
    [waiting] = await scene.operator.items("/v1/quota-requests", state="open")
    assert (waiting["id"], waiting["workspace_id"]) == (request["id"], scene.workspace)
    assert (await scene.quota())["open_request"] == request
    return request


async def be_granted(scene: Scene, way: Way, request: Json) -> None:
    """Q4 and Q5: with the grant it goes on by itself, at once."""
    names = [f"meanwhile-{n}@example.com" for n in range(MEANWHILE)]
    await scene.source.invite(names, name=way.source_list)
    await scene.ask_for_runs()
    last = (await way.destination.writes())[-1]["seq"]

    granted = await scene.operator.post(
        f"/v1/quota-requests/{request['id']}:grant", {"limit": GRANTED, "validity": "this_month"}
    )
    quota = await scene.quota()
    await until(lambda: who_waited(way, after=last), bool)
    assert (granted["state"], granted["decision"]["limit"]) == ("granted", GRANTED)
    assert (quota["limit"], quota["standing_limit"]) == (GRANTED, LIMIT)
    assert (quota["state"], quota["open_request"]) == ("open", None)


async def who_waited(way: Way, *, after: int) -> list[Json]:
    """Return the writes of contacts that were parked when everything stopped."""
    writes = await way.destination.writes(after=after)
    return [write for write in writes if str(write["identity"]).startswith("late-")]


async def catch_up(scene: Scene) -> None:
    """Q5: who waited and who came meanwhile are written, each once; one mail told of the grant."""
    left = await oracle.wait_until_quiet(scene, within_s=WITHIN_S)

    quota = await scene.quota()
    assert left == []
    assert (quota["used"], quota["held"]) == (CONTACTS + MORE + MEANWHILE, 0)
    assert await mails(scene) == {"quota_80": 1, "quota_100": 1, "quota_granted": 1}


async def account_for_every_task(scene: Scene, way: Way) -> None:
    """Q6: the ledger's lines add up to the used count, by integration, by run and by day."""
    quota = await scene.quota()
    lines = await scene.api.items("/v1/quota/ledger")
    runs = await scene.api.items(f"{way.path}/runs")
    [month] = await scene.api.items("/v1/quota/periods")

    used = quota["used"]
    by_run = Counter(line["run_id"] for line in lines)
    assert len(lines) == len({line["contact"] for line in lines}) == used
    assert quota["by_integration"] == [
        {"integration_id": way.integration, "name": lines[0]["integration"], "used": used}
    ]
    assert sum(day["used"] for day in quota["by_day"]) == used
    assert by_run == Counter({run["id"]: run["tasks"] for run in runs if run["tasks"]})
    for run, tasks in by_run.items():
        assert len(await scene.api.items("/v1/quota/ledger", run_id=run)) == tasks
    assert (month["used"], month["limit"]) == (used, GRANTED)
    assert month["reached_80_at"] < month["reached_100_at"]
    assert await exported(scene) == lines
    events = await scene.api.items("/v1/audit-events")
    asked = [event["action"] for event in events if event["action"].startswith("quota_request")]
    assert asked == ["quota_request.granted", "quota_request.opened"]


async def exported(scene: Scene) -> list[Json]:
    """Return the ledger as its file has it."""
    key = await scene.api.post("/v1/api-keys", {"name": "file", "scopes": ["quota:read"]})
    async with httpx.AsyncClient(base_url=scene.stack.api, trust_env=False) as client:
        bearer = {"authorization": f"Bearer {key['secret']}"}
        file = await client.get("/v1/quota/ledger.csv", headers=bearer)
    return [dict(row) for row in csv.DictReader(io.StringIO(file.text, newline=""))]


async def last_run(scene: Scene, way: Way) -> Json:
    """Return the newest run; one that has not begun is not complete."""
    runs = await scene.api.items(f"{way.path}/runs")
    return runs[0] if runs else {"state": "none"}


async def parked(scene: Scene, way: Way) -> list[Json]:
    """Return who waits."""
    return await scene.contacts(way, "parked")


async def mails(scene: Scene) -> Counter[str]:
    """Return how many mails of each kind came."""
    async with httpx.AsyncClient(base_url=scene.stack.mailbox, trust_env=False) as mailbox:
        received = (await mailbox.get("/api/messages")).json()
    headers = [
        {name.lower(): value for name, value in each["headers"].items()} for each in received
    ]
    return Counter(str(each.get("x-contactsync-kind")) for each in headers)


async def until(look: Callable[[], Awaitable[T]], is_so: Callable[[T], bool]) -> T:
    """Look again and again until it is so; return what was seen then."""
    async with asyncio.timeout(WITHIN_S):
        seen = await look()
        while not is_so(seen):
            await asyncio.sleep(LOOK_EVERY_S)
            seen = await look()
    return seen
