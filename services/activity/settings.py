"""What activity may be told."""

from dataclasses import dataclass

from libs.common.settings import DatabaseSettings, KafkaSettings, ServiceSettings


@dataclass(frozen=True, kw_only=True)
class Settings(DatabaseSettings, KafkaSettings, ServiceSettings):
    """Nothing of its own: it projects as fast as the records come."""
