"""What the accountant may be told."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from libs.common.settings import (
    DatabaseSettings,
    KafkaSettings,
    PositiveFloat,
    ServiceSettings,
)

MonthsKept = Annotated[int, Meta(ge=2, description="a whole number of at least 2")]


@dataclass(frozen=True, kw_only=True)
class Settings(DatabaseSettings, KafkaSettings, ServiceSettings):
    """Who is the accountant for how long, and how often it looks at what."""

    # One that is gone is replaced within the lease and one question: 7 s, and wanted are 10.
    accountant_lease_s: PositiveFloat = 6.0
    accountant_ask_every_s: PositiveFloat = 1.0

    # Months are made three ahead, so a day between looks is plenty; an hour survives a bad day.
    partitions_every_s: PositiveFloat = 3600.0

    # Each task is in the ledger for so many months after its own; the counters stay. Two is the
    # least: what is posted may belong to the month before.
    postings_months_kept: MonthsKept = 13

    # How long after a look a workspace's month is looked at again.
    reconcile_every_s: PositiveFloat = 3600.0

    measure_every_s: PositiveFloat = 15.0
