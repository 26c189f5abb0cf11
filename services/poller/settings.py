"""What the poller may be told."""

from dataclasses import dataclass

from libs.common.settings import (
    DatabaseSettings,
    KafkaSettings,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ProviderSettings,
    SecretsSettings,
)


@dataclass(frozen=True, kw_only=True)
class Settings(DatabaseSettings, KafkaSettings, SecretsSettings, ProviderSettings):
    """One poller's settings; which provider it reads is its command's argument."""

    # How many integrations one process reads at a time. Each holds some ten pages in memory, half
    # a megabyte; a claim takes as many at once (PROTOCOL.md 4.1).
    integrations_in_flight_max: PositiveInt = 50

    # How often an idle process looks for due integrations. Shorter than anyone notices after
    # asking for a run; a claim costs a millisecond while nobody is due. Not shorter: each one that
    # is due and may not be read (no quota left, an error) adds 15 to 40 µs of the database's.
    claim_every_s: PositiveFloat = 1.0

    # How long an integration waits for a poller that died while it read (PROTOCOL.md 4.1).
    # Renewed every quarter of it.
    lease_s: PositiveFloat = 120.0

    # CC4, liftable: of one run of changes at most the newest so many contacts are fetched. Unset:
    # as many as the provider's own rule says; 0: all of them.
    bulk_fetch_cap: NonNegativeInt | None = None
