"""docs/asyncapi.yaml says what the code sends, and nothing else."""

from pathlib import Path

import yaml

from libs.common.events import Event
from local.asyncapi import document

FILE = Path(__file__).parent.parent / "docs" / "asyncapi.yaml"


def test_the_document_is_what_the_code_sends() -> None:
    """After a change of events: `python -m local.asyncapi > docs/asyncapi.yaml`."""
    assert yaml.safe_load(FILE.read_text()) == document()


def test_every_event_and_its_fields_are_described() -> None:
    schemas = document()["components"]["schemas"]

    for event in Event.__subclasses__():
        described = set(schemas[event.__name__]["properties"])
        assert described == {"type", *event.__struct_fields__}
