"""A dlt pipeline from HubSpot to Brevo: `python -m benchmarks.peers.dlt_pipeline FILE FOLDER`.

By default what dlt's guides begin with: the declarative REST source, and a custom destination with
its own batch of 10. Tuned by its page on performance: a resource that yields whole pages, larger
batches, and files that are not compressed.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any

import dlt
import requests
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator
from dlt.sources.rest_api import rest_api_source

from benchmarks.peers import job
from benchmarks.peers.job import Settings

ANSWER_WITHIN_S = 60.0
BATCH_DEFAULT = 10
CURSOR = "paging.next.after"


def main(file: str, folder: str) -> None:
    """Run the pipeline once, its working files in a folder; raise what dlt raises if it fails."""
    settings = Settings.read(file)
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    if settings.tuned:
        os.environ["NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION"] = "true"
    pipeline = dlt.pipeline("contacts", pipelines_dir=folder, destination=_destination(settings))
    pipeline.run(_pages(settings) if settings.tuned else _declared(settings))


def _declared(settings: Settings) -> Any:
    client = {
        "base_url": settings.source_url,
        "auth": {"type": "bearer", "token": settings.source_token},
        "paginator": {"type": "cursor", "cursor_path": CURSOR, "cursor_param": "after"},
    }
    endpoint = {"path": job.PATH, "params": job.parameters(), "data_selector": "results"}
    contacts = {"name": "contacts", "endpoint": endpoint, "processing_steps": [{"map": _flat}]}
    return rest_api_source({"client": client, "resources": [contacts]})


def _pages(settings: Settings) -> Any:
    client = RESTClient(
        settings.source_url,
        auth=BearerTokenAuth(settings.source_token),
        paginator=JSONResponseCursorPaginator(cursor_path=CURSOR, cursor_param="after"),
        data_selector="results",
    )

    @dlt.resource(name="contacts")
    def contacts() -> Iterator[list[dict[str, Any]]]:
        for page in client.paginate(job.PATH, params=job.parameters()):
            yield [_flat(record) for record in page]

    return contacts


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    return {"id": record["id"], **{name: record["properties"].get(name) for name in job.FIELDS}}


def _destination(settings: Settings) -> Any:
    session = requests.Session()
    session.headers["api-key"] = settings.destination_key

    @dlt.destination(batch_size=job.BATCH_TUNED if settings.tuned else BATCH_DEFAULT)
    def imports(items: list[dict[str, Any]], table: Any) -> None:
        answer = session.post(
            settings.destination_url + job.IMPORT_PATH,
            json=job.body(items, settings.list_id),
            timeout=ANSWER_WITHIN_S,
        )
        answer.raise_for_status()

    return imports


if __name__ == "__main__":
    main(*sys.argv[1:])
