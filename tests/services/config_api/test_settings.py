"""What the API may be told."""

from typing import Any

import pytest

from libs.common.settings import Environment, Secret
from services.config_api.settings import Settings


def settings(**members: Any) -> Settings:
    return Settings(
        database_url="postgresql://contactsync_api@127.0.0.1/contactsync",
        keys=Secret("one:AAAA"),
        health_port=0,
        **members,
    )


def test_browsers_come_back_to_the_public_address_or_to_loopback() -> None:
    here = settings(api_port=8123)
    public = settings(public_url="https://sync.example/")

    assert here.base_url == "http://127.0.0.1:8123"
    assert public.base_url == "https://sync.example"


def test_production_refuses_logins_over_plain_http() -> None:
    with pytest.raises(ValueError, match="PUBLIC_URL must begin with https://"):
        settings(environment=Environment.PRODUCTION, public_url="http://sync.example")


def test_development_may_use_plain_http() -> None:
    here = settings(environment=Environment.DEVELOPMENT, public_url="http://127.0.0.1:1")

    assert here.base_url == "http://127.0.0.1:1"
