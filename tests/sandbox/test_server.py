"""The core's HTTP: a provider that only counts, on a real port, broken in every way."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import psutil
import pytest

from sandbox.exchange import Answer, RefusedError, Request, Route
from sandbox.limits import Limits, SlidingWindow
from sandbox.provider import Account, Provider
from sandbox.server import ProviderApp, serve


class Knobs(msgspec.Struct, forbid_unknown_fields=True):
    delay_s: float = 0.0


class Counter(Account):
    count = 0


class Counting(Provider[Counter]):
    """Counts POSTs to /count/{name}, 3 in 10 s; the key is the account's id."""

    def __init__(self) -> None:
        super().__init__()

        @self.routes.add("POST", "/count/{name}")
        def count(account: Counter, request: Request) -> Answer:
            assert request.json is not None
            account.count += 1
            account.writes.add(
                "POST /count", identity="a", attributes={"n": 1}, contact_id=1, created=True
            )
            return Answer(201, {"count": account.count, "name": request.arguments["name"]})

        @self.routes.add("GET", "/count/total")
        @self.routes.add("GET", "/count/{name}")
        def total(account: Counter, request: Request) -> Answer:
            return Answer(200, {"count": account.count})

    def start(self) -> None:
        self.accounts["1"] = self._account("1")

    def _account(self, account_id: str) -> Counter:
        limits = Limits(self.clock, {"calls": [SlidingWindow(3, 10)]})
        return Counter(account_id, "one", clock=self.clock, limits=limits, settings=Knobs())

    def open_account(self, wishes: dict[str, Any]) -> tuple[Counter, dict[str, Any]]:
        account = self.accounts["2"] = self._account("2")
        return account, {"key": "2"}

    def account_of(self, request: Request) -> Counter | None:
        return self.accounts.get(request.headers.get("key", "1"))

    def admit(self, account: Counter | None, route: Route[Counter], request: Request) -> Counter:
        if account is None:
            raise RefusedError(self.error(401))
        if account.limits.take("calls", request.arrived_s, request.unseen_s):
            account.calls.violate("calls", route.name)
            raise RefusedError(self.throttled(account, route))
        return account

    def no_route(self, request: Request, methods: list[str]) -> Answer:
        return Answer(405 if methods else 404, {"allow": methods})

    def error(self, status: int) -> Answer:
        return Answer(status, {"error": status})

    def throttled(self, account: Counter, route: Route[Counter] | None) -> Answer:
        return Answer(429, {"slow": True}, {"retry-after": "1"})

    def bad_json(self, request: Request, reason: str) -> Answer:
        return Answer(400, {"error": "json"})


@pytest.fixture
async def counting() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve(ProviderApp(Counting())) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        yield client


async def count_of(client: httpx.AsyncClient) -> int:
    await client.put("/_sandbox/limits", json={"enabled": False})
    count = (await client.get("/count/total")).json()["count"]
    assert isinstance(count, int)
    return count


async def test_a_handler_answers_what_its_path_names(counting: httpx.AsyncClient) -> None:
    answer = await counting.post("/count/a%2Fb", json={})

    assert (answer.status_code, answer.json()) == (201, {"count": 1, "name": "a/b"})


async def test_a_path_or_method_that_is_not_there_is_told_as_the_provider_does(
    counting: httpx.AsyncClient,
) -> None:
    nowhere = await counting.get("/nowhere")
    elsewise = await counting.delete("/count/total")

    assert (nowhere.status_code, nowhere.json()) == (404, {"allow": []})
    assert (elsewise.status_code, elsewise.json()) == (405, {"allow": ["GET", "POST"]})


async def test_a_body_that_is_no_json_is_told_as_the_provider_does(
    counting: httpx.AsyncClient,
) -> None:
    answer = await counting.post("/count/a", content=b"{")

    assert (answer.status_code, answer.json()) == (400, {"error": "json"})


async def test_a_cut_connection_applies_nothing(counting: httpx.AsyncClient) -> None:
    await counting.put("/_sandbox/faults", json=[{"kind": "cut", "times": 1}])

    with pytest.raises(httpx.TransportError):
        await counting.post("/count/a", json={})

    assert await count_of(counting) == 0


async def test_a_connection_cut_after_the_work_has_applied_it(counting: httpx.AsyncClient) -> None:
    await counting.put("/_sandbox/faults", json=[{"kind": "cut_after", "times": 1}])

    with pytest.raises(httpx.TransportError):
        await counting.post("/count/a", json={})

    assert await count_of(counting) == 1


async def test_a_truncated_answer_ends_in_the_middle(counting: httpx.AsyncClient) -> None:
    await counting.put("/_sandbox/faults", json=[{"kind": "truncate", "times": 1}])

    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        await counting.post("/count/a", json={})

    assert await count_of(counting) == 1


@pytest.mark.parametrize(
    ("fault", "status", "content"),
    [
        ({"kind": "status", "status": 503}, 503, '{"error":503}'),
        ({"kind": "status", "status": 418, "body": {"a": 1}}, 418, '{"a":1}'),
        ({"kind": "html"}, 502, "<!DOCTYPE html>"),
        ({"kind": "throttle"}, 429, '{"slow":true}'),
        ({"kind": "lie"}, 200, "{}"),
        ({"kind": "lie", "status": 201, "body": {"id": 7}}, 201, '{"id":7}'),
    ],
)
async def test_a_fault_answers_in_the_place_of_the_work(
    counting: httpx.AsyncClient, fault: dict[str, Any], status: int, content: str
) -> None:
    await counting.put("/_sandbox/faults", json=[{**fault, "times": 1}])

    answer = await counting.post("/count/a", json={})

    assert answer.status_code == status
    assert answer.text.startswith(content)
    assert await count_of(counting) == 0


async def test_a_throttle_fault_is_no_violation_and_a_call_over_the_limit_is_one(
    counting: httpx.AsyncClient,
) -> None:
    await counting.put("/_sandbox/faults", json=[{"kind": "throttle", "times": 1}])

    statuses = [(await counting.post("/count/a", json={})).status_code for _ in range(5)]

    calls = (await counting.get("/_sandbox/calls")).json()
    assert statuses == [429, 201, 201, 201, 429]
    assert (calls["total"], calls["violations"], calls["writes"]) == (5, 1, 3)
    assert calls["by_endpoint"] == {"POST /count/{name}": 5}
    assert calls["violations_by_bucket"] == {"calls": 1}


async def test_a_call_that_came_while_the_loop_stood_still_counts_from_then() -> None:
    provider = Counting()
    async with serve(ProviderApp(provider)) as url, httpx.AsyncClient(base_url=url) as client:
        await client.get("/_sandbox/clock")
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as caller:
            came_s = provider.clock.now_s()
            caller.sendall(b"GET /count/total HTTP/1.1\r\nhost: here\r\n\r\n")
            time.sleep(0.3)  # noqa: ASYNC251  # it is the loop that is to stand still
            caller.setblocking(False)
            await asyncio.get_running_loop().sock_recv(caller, 1)
    window = provider.default.limits._buckets["calls"][0]
    assert isinstance(window, SlidingWindow)
    assert window._arrivals[0] <= came_s


async def test_latency_is_waited_for(counting: httpx.AsyncClient) -> None:
    await counting.put("/_sandbox/faults", json=[{"kind": "latency", "seconds": 30}])

    with pytest.raises(httpx.ReadTimeout):
        await counting.post("/count/a", json={}, timeout=0.2)


async def test_a_request_that_was_never_finished_applies_nothing(
    counting: httpx.AsyncClient,
) -> None:
    host, port = counting.base_url.host, counting.base_url.port
    _, writer = await asyncio.open_connection(host, port)
    writer.write(b"POST /count/a HTTP/1.1\r\nhost: sandbox\r\ncontent-length: 20\r\n\r\n{}")
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert await count_of(counting) == 0
    calls = (await counting.get("/_sandbox/calls")).json()
    assert calls["by_endpoint"] == {"GET /count/total": 1}


async def test_an_application_without_a_connection_says_that_it_cannot_cut() -> None:
    app = ProviderApp(Counting())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
        await client.put("/_sandbox/faults", json=[{"kind": "cut"}])

        with pytest.raises(ConnectionResetError, match="only a served application"):
            await client.get("/count/total")


async def test_in_a_container_the_world_outside_is_listened_to() -> None:
    async with serve(ProviderApp(Counting()), host="0.0.0.0") as url:
        port = int(url.rpartition(":")[2])
        sockets = psutil.Process().net_connections(kind="tcp")

        assert [each.laddr.ip for each in sockets if each.laddr.port == port] == ["0.0.0.0"]


async def test_the_port_is_free_again_when_the_block_ends() -> None:
    async with serve(ProviderApp(Counting())) as url:
        port = int(url.rpartition(":")[2])

    async with serve(ProviderApp(Counting()), port) as again:
        assert again == url
