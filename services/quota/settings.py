"""What the accountant may be told."""

from pydantic import PositiveFloat

from libs.common.settings import DatabaseSettings, KafkaSettings, ServiceSettings


class Settings(DatabaseSettings, KafkaSettings, ServiceSettings):
    """How often it looks after the ledger's partitions."""

    # Months are made three ahead, so a day between looks is plenty; an hour survives a bad day.
    partitions_every_s: PositiveFloat = 3600.0
