"""One request, one answer, and the table of what answers what.

The sandbox's state is in memory, so a handler is a plain function of an account and a `Request`
that returns an `Answer` or raises a `RefusedError` with one. The core (`sandbox.server`) reads and
writes HTTP around it.
"""

import re
from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, parse_qsl, unquote

import msgspec

A = TypeVar("A")


class RequestBodyError(ValueError):
    """The body of a request is not JSON."""


@dataclass(frozen=True)
class Request:
    """A request that has been read to its end."""

    method: str
    path: str  # As sent, percent-encoded, without the query.
    query_string: str
    headers: Mapping[str, str]  # Names in lower case.
    body: bytes = b""
    base_url: str = "http://127.0.0.1"
    arguments: Mapping[str, str] = field(default_factory=dict)  # What the path's template names.
    endpoint: str = ""  # Method and template of the route that answers it.
    arrived_s: float | None = None  # By the sandbox's clock; None is now.
    unseen_s: float = 0.0  # It may have come so much before that (`sandbox.stalls`).

    @cached_property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_string, keep_blank_values=True)

    def parameter(self, name: str, default: str = "") -> str:
        """Return the first value of a query parameter."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a boolean parameter; official clients send `True` as well as `true`."""
        return self.parameter(name, str(default)).lower() == "true"

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    @cached_property
    def json(self) -> Any:
        """The body, decoded; raises `RequestBodyError`."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestBodyError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: `body` is encoded as JSON unless it is bytes; None is no body at all."""

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"

    def encoded(self) -> bytes:
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else msgspec.json.encode(self.body)


class RefusedError(Exception):
    """A handler ends early with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"refused with HTTP {answer.status}")
        self.answer = answer


Handler = Callable[[A, Request], Answer]


@dataclass(frozen=True, slots=True)
class Route(Generic[A]):
    """What answers one method of one path; `tags` are the provider's own (bucket, scopes)."""

    method: str
    template: str
    pattern: re.Pattern[str]
    handler: Handler[A]
    tags: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"


class Routes(Generic[A]):
    """Routes by method and path template; of several that fit, the one with most literal text."""

    def __init__(self) -> None:
        self._by_shape: dict[tuple[str, int], list[Route[A]]] = {}

    def add(self, method: str, *templates: str, **tags: Any) -> Callable[[Handler[A]], Handler[A]]:
        """Register the decorated handler: `{name}` in a template is one segment or part of one."""

        def register(handler: Handler[A]) -> Handler[A]:
            for template in templates:
                route = Route(method, template, _pattern(template), handler, tags)
                routes = self._by_shape.setdefault((method, template.count("/")), [])
                insort(routes, route, key=lambda other: -_literal(other.template))
            return handler

        return register

    def find(self, method: str, path: str) -> tuple[Route[A], dict[str, str]] | None:
        path = _plain(path)
        for route in self._by_shape.get((method, path.count("/")), ()):
            if match := route.pattern.fullmatch(path):
                values = match.groupdict().items()
                return route, {name: unquote(value) for name, value in values}
        return None

    def methods(self, path: str) -> list[str]:
        """Return the methods that a path has: empty if there is no such path."""
        plain = _plain(path)
        return sorted(
            {
                method
                for (method, shape), routes in self._by_shape.items()
                if shape == plain.count("/")
                and any(route.pattern.fullmatch(plain) for route in routes)
            }
        )


def _plain(path: str) -> str:
    """Return a path as templates have it: a colon is a colon, and no slash is at the end."""
    return (path.rstrip("/") or "/").replace("%3A", ":").replace("%3a", ":")


@cache
def _literal(template: str) -> int:
    """Return how many characters of a template are literal."""
    return len(re.sub(r"\{\w+\}", "", template))


@cache
def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", template)
    literal = [re.escape(piece) for piece in pieces[::2]]
    names = [f"(?P<{name}>[^/]+)" for name in pieces[1::2]] + [""]
    return re.compile("".join(a + b for a, b in zip(literal, names, strict=True)))
