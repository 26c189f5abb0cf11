"""Requests that make no sense are refused, each of them: a sandbox that breaks proves nothing."""

import json
import re
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from sandbox.hubspot.app import create_app
from sandbox.hubspot.state import State

REQUESTS = 2_000
KEYS = (
    *("inputs", "properties", "id", "idProperty", "name", "email", "birthday", "interests"),
    *("filterGroups", "filters", "propertyName", "operator", "value", "values", "sorts"),
    *("limit", "after", "count", "offset", "sort", "listIds", "processingTypes", "query"),
    *("primaryObjectId", "objectIdToMerge", "objectId", "recordIdsToAdd", "recordId"),
    *("label", "type", "fieldType", "groupName", "options", "contacts", "ids", "list", "seed"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**20, [], {}),
    *("", "a", "101", "²", "x;y", "\u0000", "🌻", "9" * 5_000, "email", "hs_object_id"),
    *("lastmodifieddate", "2026-01-01", "IN", "GT", "BETWEEN", "MANUAL", "-email"),
)
PARAMETERS = ("limit", "after", "before", "properties", "archived", "idProperty", "listIds")


def anything(draw: Random, depth: int = 0) -> Any:
    if depth < 4 and draw.random() < 0.45:
        inner = [anything(draw, depth + 1) for _ in range(draw.randint(0, 4))]
        return {draw.choice(KEYS): each for each in inner} if draw.random() < 0.6 else inner
    return draw.choice(VALUES)


def search(draw: Random) -> dict[str, Any]:
    one = {
        "propertyName": draw.choice(("email", "lastmodifieddate", "birthday", "hs_object_id")),
        "operator": draw.choice(("EQ", "IN", "GT", "BETWEEN", "CONTAINS_TOKEN")),
        "value": draw.choice(VALUES),
        "highValue": draw.choice(VALUES),
        "values": anything(draw),
    }
    return {"filterGroups": [{"filters": [one]}], "sorts": [draw.choice(VALUES)]}


def body(draw: Random) -> bytes:
    match draw.randint(0, 4):
        case 0:
            return draw.randbytes(draw.randint(0, 9))
        case 1:
            fields = {"id": draw.choice(VALUES), "properties": anything(draw)}
            return json.dumps({"inputs": [fields, fields]}).encode()
        case 2:
            return json.dumps(search(draw)).encode()
        case _:
            return json.dumps(anything(draw)).encode()


@pytest.mark.parametrize("seed", range(3))
async def test_no_request_breaks_the_sandbox(seed: int) -> None:
    draw, state = Random(seed), State()
    transport = httpx.ASGITransport(create_app(state))  # It lets a handler's exception through.
    templates = [
        (route.method, route.template)
        for routes in (state.routes, state.control)
        for by_shape in routes._by_shape.values()
        for route in by_shape
    ]
    statuses = set()
    async with httpx.AsyncClient(
        transport=transport,
        base_url="http://sandbox",
        headers={"authorization": "Bearer pat-sandbox"},
    ) as client:
        await client.post("/_sandbox/contacts:fill", json={"count": 20, "list": "All"})
        await client.put("/_sandbox/limits", json={"enabled": False})
        for _ in range(REQUESTS):
            method, template = draw.choice(templates)
            segment = quote(draw.choice(("101", "1", "2", "x", "contacts", "email", "²", "\0")))
            path = re.sub(r"\{\w+\}", segment.replace("\\", ""), template)
            query = {name: str(draw.choice(VALUES))[:50] for name in draw.sample(PARAMETERS, 2)}

            answer = await client.request(method, path, params=query, content=body(draw))

            statuses.add(answer.status_code)

    assert max(statuses) < 500
    assert {200, 204, 400, 404} <= statuses
