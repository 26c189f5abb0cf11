"""Salesforce orgs in memory, who may call them, and how often.

The allocation is of any 24 hours and of the org: all its apps share it. Every answer of the REST
API but the list of versions tells it in `Sforce-Limit-Info`. A call over it is a 403 without a word
of when to come back. Sources: the limits cheat sheet, the status codes page of the REST guide.
"""

import re
from dataclasses import replace
from typing import Any

from sandbox.exchange import Answer, RefusedError, Request, Route
from sandbox.faults import FaultPlan
from sandbox.provider import ControlError, Provider
from sandbox.salesforce import errors
from sandbox.salesforce.jobs import Jobs
from sandbox.salesforce.org import EDITIONS, Org, known_edition
from sandbox.salesforce.results import Results
from sandbox.salesforce.tokens import CLIENT_ID, CLIENT_SECRET, STANDING_TOKEN, Session, Tokens

URI_BYTES_MAX = 16_384  # Of the address and headers together.
OLDEST, NEWEST = 31, 67
VERSIONS = tuple(f"v{number}.0" for number in range(OLDEST, NEWEST + 1))
_VERSION = re.compile(r"/services/data/(v[\d.]+)(/|$)")
_MESSAGES = {
    401: ("INVALID_SESSION_ID", "Session expired or invalid"),
    403: ("INSUFFICIENT_ACCESS", "insufficient access rights on cross-reference id"),
    404: ("NOT_FOUND", errors.NOT_FOUND),
    503: ("SERVER_UNAVAILABLE", "The server is unavailable to handle the request."),
}


class State(Provider[Org]):
    """All orgs of the process, the sessions for them, and what their queries found."""

    tokens: Tokens
    results: Results
    jobs: Jobs

    def start(self) -> None:
        self.tokens = Tokens()
        self.results = Results()
        self.jobs = Jobs()
        org = self._open("Salesforce sandbox", "enterprise")
        now_s = self.clock.now_s()
        self.tokens.sessions[STANDING_TOKEN] = Session(
            STANDING_TOKEN, org.id, ("api",), now_s, now_s, is_standing=True
        )

    def open_account(self, wishes: dict[str, Any]) -> tuple[Org, dict[str, Any]]:
        unknown = set(wishes) - {"name", "edition"}
        if unknown:
            message = f"an account takes name and edition, not {', '.join(sorted(unknown))}"
            raise ControlError(message)
        org = self._open(
            str(wishes.get("name", "")), known_edition(wishes.get("edition", "enterprise"))
        )
        session = self.tokens.open(org.id, ("api",), self.clock.now_s(), grant=None)
        session.is_standing = True
        credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        return org, {
            **credentials,
            "access_token": session.token,
            "username": org.user["Username"],
        }

    def account_of(self, request: Request) -> Org | None:
        session = self.session_of(request)
        if session is not None:
            return self.accounts.get(session.account)
        if request.path.endswith("/oauth2/token"):
            grant = self.tokens.grant_of(request.form().get("refresh_token", ""))
            return self.accounts.get(grant.account) if grant else None
        return None

    def session_of(self, request: Request) -> Session | None:
        """Return the session that a call shows, one that is over too."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self.tokens.sessions.get(token) if scheme.lower() in {"bearer", "oauth"} else None

    def live_session(self, request: Request) -> Session | None:
        """Return the session that a call shows if it is still good, and move its end."""
        session = self.session_of(request)
        now_s = self.clock.now_s()
        if session is None:
            return None
        if session.is_over(now_s, self.accounts[session.account].settings.session_ttl_s):
            return None
        session.used_s = now_s
        return session

    def admit(self, account: Org | None, route: Route[Org], request: Request) -> Org:
        lines = sum(len(name) + len(value) + 4 for name, value in request.headers.items())
        if len(request.path) + len(request.query_string) + lines > URI_BYTES_MAX:
            raise RefusedError(Answer(414, b"URI Too Long", media_type="text/html"))
        if route.tags.get("open"):
            return account or self.default
        scheme = request.headers.get("authorization", "Bearer ").partition(" ")[0].lower()
        if scheme not in {"bearer", "oauth"}:
            raise errors.bad_header()
        session = self.live_session(request)
        if session is None or account is None:
            raise errors.no_session()
        if not {"api", "full"} & set(session.scopes):
            message = "This session is not valid for use with the REST API"
            raise errors.refused(401, "INVALID_SESSION_ID", message)
        self._check_api(account)
        self._take(account, route, request)
        version = _VERSION.match(request.path)
        if version is None or version[1] not in VERSIONS:
            raise errors.not_found()
        account.settle()
        return account

    def no_route(self, request: Request, methods: list[str]) -> Answer:
        if methods:
            message = f"HTTP Method '{request.method}' not allowed. Allowed are {','.join(methods)}"
            return errors.answer(405, "METHOD_NOT_ALLOWED", message)
        return errors.answer(404, "NOT_FOUND", errors.NOT_FOUND)

    def error(self, status: int) -> Answer:
        unexpected = "An unexpected error occurred. Please include this ErrorId: 1-1 (1)"
        code, message = _MESSAGES.get(status, ("UNKNOWN_EXCEPTION", unexpected))
        return errors.answer(status, code, message)

    def throttled(self, account: Org, route: Route[Org] | None) -> Answer:
        return errors.over(errors.TOO_MANY_LONG_CALLS)

    def bad_json(self, request: Request, reason: str) -> Answer:
        return errors.answer(400, "JSON_PARSER_ERROR", reason)

    def lie(self, account: Org, route: Route[Org], request: Request, fault: FaultPlan) -> Answer:
        """Claim that a write was done, in the words of one that was."""
        claim = route.tags.get("claim")
        if fault.status is not None or fault.body is not None or claim is None:
            return super().lie(account, route, request, fault)
        answer: Answer = claim(account, request)
        return answer

    def finish(
        self, account: Org | None, route: Route[Org] | None, request: Request, answer: Answer
    ) -> Answer:
        """Tell how much of the day's allocation is used, and by which request."""
        headers = dict(answer.headers)
        is_data = _VERSION.match(request.path) is not None
        if account and is_data and answer.status != 401:
            (day,) = account.limits.read("daily")
            headers["Sforce-Limit-Info"] = f"api-usage={day.limit - day.remaining}/{day.limit}"
        if isinstance(answer.body, dict | list):
            headers.setdefault("content-type", errors.JSON)
        return replace(answer, headers=headers)

    def _check_api(self, org: Org) -> None:
        """Refuse what an org without the API, or one that is busy, refuses."""
        if not org.settings.api_enabled:
            message = "The REST API is not enabled for this Organization."
            raise errors.refused(403, org.settings.api_disabled_code, message)

    def _take(self, org: Org, route: Route[Org], request: Request) -> None:
        """Count a call; raise the 403 of the limit that it is over."""
        if org.limits.enabled and org.settings.long_calls >= EDITIONS[org.edition][2]:
            org.calls.violate("concurrent", route.name)
            raise RefusedError(errors.over(errors.TOO_MANY_LONG_CALLS))
        if org.limits.take("daily", request.arrived_s):
            org.calls.violate("daily", route.name)
            raise RefusedError(errors.over(errors.OVER_THE_DAY))

    def _open(self, name: str, edition: str) -> Org:
        number = len(self.accounts) + 1
        org = Org(number, name or f"Org {number}", clock=self.clock, edition=edition)
        org.seed = self.seed
        self.accounts[org.id] = org
        return org
