"""What the mapper may be told."""

from libs.common.settings import DatabaseSettings, KafkaSettings, ServiceSettings


class Settings(DatabaseSettings, KafkaSettings, ServiceSettings):
    """Everything from the environment; see `libs.common.settings`."""
