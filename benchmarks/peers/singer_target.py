"""A Singer target for Brevo's imports: `python -m benchmarks.peers.singer_target --config FILE`.

Written as singer-sdk's guide has it: a batch sink, with the SDK's own batch of 10,000. Tuned are
its settings `batch_size_rows` and `validate_records`, and its msgspec reader.
"""

import json
import sys
from pathlib import Path
from typing import Any

import requests
from singer_sdk import Target
from singer_sdk.contrib.msgspec import MsgSpecReader
from singer_sdk.sinks import BatchSink

from benchmarks.peers import job
from benchmarks.peers.singer_tap import SETTINGS

ANSWER_WITHIN_S = 60.0


class Imports(BatchSink):
    """Hands each batch to one import."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._session = requests.Session()
        self._session.headers["api-key"] = self.config["destination_key"]

    def process_batch(self, context: dict[str, Any]) -> None:
        """Write one batch; raise requests.HTTPError if it is not taken."""
        answer = self._session.post(
            self.config["destination_url"] + job.IMPORT_PATH,
            json=job.body(context["records"], self.config["list_id"]),
            timeout=ANSWER_WITHIN_S,
        )
        answer.raise_for_status()


class TargetContacts(Target):
    """The target as the guide has it."""

    name = "target-contacts"
    config_jsonschema = SETTINGS
    default_sink_class = Imports


class TunedTarget(TargetContacts):
    """The same with the SDK's faster reader."""

    message_reader_class = MsgSpecReader


if __name__ == "__main__":
    is_tuned = json.loads(Path(sys.argv[-1]).read_text())["tuned"]
    (TunedTarget if is_tuned else TargetContacts).cli()
