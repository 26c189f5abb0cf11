"""Which route answers a path, and what a request says."""

import pytest

from sandbox.exchange import Answer, Request, RequestBodyError, Routes


def table(*templates: str) -> Routes[None]:
    routes: Routes[None] = Routes()
    for template in templates:
        routes.add("GET", template)(lambda account, request: Answer())
    return routes


def found(routes: Routes[None], path: str) -> tuple[str, dict[str, str]] | None:
    match = routes.find("GET", path)
    return (match[0].template, match[1]) if match else None


def request(**parts: str | bytes) -> Request:
    body = parts.pop("body", b"")
    assert isinstance(body, bytes)
    return Request("GET", "/", str(parts.get("query", "")), {}, body)


def test_the_route_with_most_literal_text_answers_whatever_their_order() -> None:
    for routes in (table("/a/{name}", "/a/groups"), table("/a/groups", "/a/{name}")):
        assert found(routes, "/a/groups") == ("/a/groups", {})
        assert found(routes, "/a/other") == ("/a/{name}", {"name": "other"})


def test_a_name_may_be_a_part_of_a_segment() -> None:
    routes = table("/lists/{list}:join", "/lists/{list}:leave")

    assert found(routes, "/lists/My%20list:leave") == ("/lists/{list}:leave", {"list": "My list"})
    assert found(routes, "/lists/1%3Ajoin") == ("/lists/{list}:join", {"list": "1"})
    assert found(routes, "/lists/1") is None


def test_an_encoded_slash_is_part_of_a_name_and_one_at_the_end_is_nothing() -> None:
    routes = table("/a/{name}")

    assert found(routes, "/a/b%2Fc") == ("/a/{name}", {"name": "b/c"})
    assert found(routes, "/a/b/") == ("/a/{name}", {"name": "b"})
    assert found(routes, "/a/b/c") is None


def test_a_path_has_the_methods_of_every_route_that_fits() -> None:
    routes = table("/a/{name}")
    routes.add("DELETE", "/a/one")(lambda account, request: Answer())

    assert routes.methods("/a/one") == ["DELETE", "GET"]
    assert routes.methods("/a/two") == ["GET"]
    assert routes.methods("/b") == []


@pytest.mark.parametrize(
    ("query", "flag"), [("x=True", True), ("x=true", True), ("x=false", False), ("", False)]
)
def test_a_flag_is_read_in_any_case(query: str, flag: bool) -> None:
    assert request(query=query).flag("x") is flag


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a":1}x'])
def test_a_body_that_is_no_json_says_so(body: bytes) -> None:
    with pytest.raises(RequestBodyError):
        _ = request(body=body).json


def test_an_answer_is_encoded_unless_it_is_bytes() -> None:
    assert Answer(200, {"a": [1, None]}).encoded() == b'{"a":[1,null]}'
    assert Answer(200, b"as it is").encoded() == b"as it is"
    assert Answer(204).encoded() == b""
