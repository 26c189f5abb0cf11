"""What the mapper may be told."""

from dataclasses import dataclass

from libs.common.settings import DatabaseSettings, KafkaSettings, ServiceSettings


@dataclass(frozen=True, kw_only=True)
class Settings(DatabaseSettings, KafkaSettings, ServiceSettings):
    """Everything from the environment; see `libs.common.settings`."""
