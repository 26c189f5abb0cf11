"""docs/openapi.json is what the code does."""

import json
from pathlib import Path
from typing import Any

import pydantic
import pytest

from services.config_api.app import create_app
from services.config_api.models import Asked, Shown

ROOT = Path(__file__).parents[3]
DOCUMENT: dict[str, Any] = create_app(None).openapi()
OPERATIONS = [
    (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]


def test_the_file_is_what_the_code_describes() -> None:
    written = json.loads((ROOT / "docs" / "openapi.json").read_text())

    assert written == DOCUMENT, "python -m services.config_api openapi > docs/openapi.json"


def test_it_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")


def test_every_operation_answers_errors_as_problems() -> None:
    for method, path, operation in OPERATIONS:
        content = operation["responses"]["default"]["content"]
        assert list(content) == ["application/problem+json"], (method, path)
        assert "422" not in operation["responses"]


def test_every_post_takes_an_idempotency_key() -> None:
    for method, path, operation in OPERATIONS:
        names = {each["name"] for each in operation.get("parameters", [])}
        assert ("Idempotency-Key" in names) is (method == "post"), path


def test_operations_have_names_and_words_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]

    assert len(names) == len(set(names))
    assert all(operation["description"].strip() for _, _, operation in OPERATIONS)


def models(base: type[pydantic.BaseModel]) -> list[type[pydantic.BaseModel]]:
    return [each for kind in base.__subclasses__() for each in (kind, *models(kind))]


@pytest.mark.parametrize(
    "model", [*models(Asked), *models(Shown)], ids=lambda model: model.__name__
)
def test_examples_are_true(model: type[pydantic.BaseModel]) -> None:
    extra = model.model_config.get("json_schema_extra") or {}
    assert isinstance(extra, dict)
    examples = extra.get("examples", [])
    assert isinstance(examples, list)

    for example in examples:
        assert model.model_validate_json(json.dumps(example)) is not None


def test_no_request_takes_a_field_that_it_does_not_know() -> None:
    """Proves X3 (OWASP API3)."""
    assert all(model.model_config["extra"] == "forbid" for model in models(Asked))


def test_no_answer_has_a_field_for_a_credential() -> None:
    """Proves X4: a new API key's secret is the one exception, shown once."""
    secretive = ("token", "secret", "api_key", "password", "sealed")
    offenders = [
        (model.__name__, name)
        for model in models(Shown)
        for name in model.model_fields
        if any(word in name for word in secretive) and name != "next_page_token"
    ]

    assert sorted(offenders) == [("NewApiKey", "secret"), ("NewWorkspace", "api_key")]
