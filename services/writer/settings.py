"""What the writer reads from its environment."""

from dataclasses import dataclass

from libs.common.settings import (
    DatabaseSettings,
    KafkaSettings,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ProviderSettings,
    SecretsSettings,
)
from libs.connectors.automatic import CONTACTS_MAX
from services.writer.lease import LATE_CALL_S


@dataclass(frozen=True, kw_only=True)
class WriterSettings(KafkaSettings, DatabaseSettings, SecretsSettings, ProviderSettings):
    """All times in seconds."""

    database_pool_size_max: PositiveInt = 8

    # A destination's lease: two missed renewals are survived (PROTOCOL.md 5).
    lease_s: PositiveFloat = 45.0
    lease_renew_s: PositiveFloat = 15.0

    # A call that a dead writer began may arrive this long after its lease.
    late_call_s: PositiveFloat = LATE_CALL_S

    # How long a lane's first record waits for company (PERFORMANCE.md 4).
    collect_s: NonNegativeFloat = 0.2

    # How often what is parked is looked at, without an event that shortens it.
    drain_every_s: PositiveFloat = 5.0

    # The provider is asked for the state of its imports this seldom (Brevo: 100 asks an hour).
    import_poll_s: PositiveFloat = 60.0

    # AC5, liftable: so many contacts of one external account are written by automatic imports in
    # each slot of half an hour; 0: any number.
    sync_budget: NonNegativeInt = CONTACTS_MAX

    # How long one call waits for its turn in the shared rate budget.
    patience_s: PositiveFloat = 15.0
