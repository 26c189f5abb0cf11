"""What activity may be told."""

from libs.common.settings import DatabaseSettings, KafkaSettings, ServiceSettings


class Settings(DatabaseSettings, KafkaSettings, ServiceSettings):
    """Nothing of its own: it projects as fast as the records come."""
