"""A Singer tap for HubSpot's contacts: `python -m benchmarks.peers.singer_tap --config FILE`.

Written as singer-sdk's guide has it. Tuned is what the SDK has for that: its msgspec writer, and
pages taken apart without JSONPath.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import requests
from singer_sdk import RESTStream, Stream, Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import BearerTokenAuthenticator
from singer_sdk.contrib.msgspec import MsgSpecWriter

from benchmarks.peers import job

SETTINGS = th.PropertiesList(
    *(th.Property(name, th.StringType) for name in ("source_url", "source_token")),
    *(th.Property(name, th.StringType) for name in ("destination_url", "destination_key")),
    th.Property("list_id", th.IntegerType),
    th.Property("tuned", th.BooleanType),
).to_dict()


class Contacts(RESTStream[str]):
    """All contacts, page by page."""

    name = "contacts"
    path = job.PATH
    primary_keys = ("id",)
    records_jsonpath = "$.results[*]"
    next_page_token_jsonpath = "$.paging.next.after"  # noqa: S105  # a position, no secret
    schema = th.PropertiesList(
        th.Property("id", th.StringType, required=True),
        *(th.Property(name, th.StringType) for name in job.FIELDS),
    ).to_dict()

    @property
    def url_base(self) -> str:
        """Return where the provider is."""
        return str(self.config["source_url"])

    @property
    def authenticator(self) -> BearerTokenAuthenticator:
        """Return what puts the token into each call."""
        return BearerTokenAuthenticator(token=self.config["source_token"])

    def get_url_params(self, context: Any, next_page_token: str | None) -> dict[str, Any]:
        """Return the query of a page."""
        after = {} if next_page_token is None else {"after": next_page_token}
        return {**job.parameters(), **after}

    def post_process(self, row: dict[str, Any], context: Any = None) -> dict[str, Any]:
        """Return a contact as its schema has it: id and properties side by side."""
        return {"id": row["id"], **{name: row["properties"].get(name) for name in job.FIELDS}}


class TunedContacts(Contacts):
    """The same without JSONPath."""

    def parse_response(self, response: requests.Response) -> Iterable[dict[str, Any]]:
        """Return a page's contacts."""
        return list(response.json()["results"])


class TapContacts(Tap):
    """The tap as the guide has it."""

    name = "tap-contacts"
    config_jsonschema = SETTINGS
    stream: type[Contacts] = Contacts

    def discover_streams(self) -> list[Stream]:
        """Return the one stream."""
        return [self.stream(tap=self)]


class TunedTap(TapContacts):
    """The same with the SDK's faster writer."""

    message_writer_class = MsgSpecWriter
    stream = TunedContacts


if __name__ == "__main__":
    is_tuned = json.loads(Path(sys.argv[-1]).read_text())["tuned"]
    (TunedTap if is_tuned else TapContacts).cli()
