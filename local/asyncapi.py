"""Writes docs/asyncapi.yaml: what travels over Kafka, out of the code that sends it.

    python -m local.asyncapi > docs/asyncapi.yaml

A test holds the file to the code (tests/test_asyncapi.py).
"""

import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from libs.common.events import Event, Topic
from libs.common.topics import DAY_MS, RETENTION_MS

KEYS: Mapping[Topic, str] = {
    Topic.CONTACTS_CHANGED: "the integration's id, so that its changes stay in order",
    Topic.CONTACTS_MAPPED: "the destination connection's id, so that one writer owns one account",
    Topic.CONTACTS_SETTLED: "the integration's id",
    Topic.QUOTA_CHANGED: "the workspace's id",
    Topic.INTEGRATIONS_CHANGED: "the integration's id",
}

FLOW: Mapping[Topic, tuple[str, str]] = {
    Topic.CONTACTS_CHANGED: ("poller", "mapper"),
    Topic.CONTACTS_MAPPED: ("mapper", "writer"),
    Topic.CONTACTS_SETTLED: ("writer", "activity"),
    Topic.QUOTA_CHANGED: ("quota", "notifier"),
    Topic.INTEGRATIONS_CHANGED: ("config_api, poller, writer", "notifier"),
}

HEADERS = {
    "type": "object",
    "description": "CloudEvents 1.0, Kafka binary mode, and the W3C trace context.",
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type"],
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "format": "uuid"},
        "ce_type": {"type": "string"},
        "ce_source": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"const": "application/json"},
        "traceparent": {"type": "string"},
    },
}


def document() -> dict[str, Any]:
    """Return the AsyncAPI 3 document."""
    events = Event.__subclasses__()
    _, schemas = msgspec.json.schema_components(events, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "contactsync events",
            "version": "1",
            "description": "Bodies are JSON; unknown fields are ignored; a field is only ever "
            "added, with a default. Records that cannot be decoded go to `<topic>.dead`.",
        },
        "defaultContentType": "application/json",
        "channels": {str(topic): _channel(topic, events) for topic in Topic},
        "operations": _operations(),
        "components": {
            "messages": {event.__name__: _message(event) for event in events},
            # As they travel: a default that is a tuple here is an array there.
            "schemas": msgspec.json.decode(msgspec.json.encode(schemas)),
        },
    }


def _channel(topic: Topic, events: list[type[Event]]) -> dict[str, Any]:
    return {
        "address": str(topic),
        "description": f"Key: {KEYS[topic]}. Kept for {RETENTION_MS // DAY_MS} days.",
        "messages": {
            event.__name__: {"$ref": f"#/components/messages/{event.__name__}"}
            for event in events
            if topic in event.topics
        },
    }


def _operations() -> dict[str, Any]:
    operations = {}
    for topic, (sender, receiver) in FLOW.items():
        channel = {"$ref": f"#/channels/{topic}"}
        operations[f"send {topic}"] = {
            "action": "send",
            "channel": channel,
            "summary": f"by {sender}",
        }
        operations[f"receive {topic}"] = {
            "action": "receive",
            "channel": channel,
            "summary": f"by {receiver}",
        }
    return operations


def _message(event: type[Event]) -> dict[str, Any]:
    first, _, _ = (event.__doc__ or "").partition("\n")
    return {
        "name": str(event.__struct_config__.tag),
        "summary": first,
        "headers": HEADERS,
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
    }


if __name__ == "__main__":
    yaml.safe_dump(document(), sys.stdout, sort_keys=False, allow_unicode=True, width=100)
