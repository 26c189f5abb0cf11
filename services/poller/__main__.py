"""Start a poller for one provider: `python -m services.poller --provider hubspot`."""

import argparse

from libs.common import ids
from libs.common.failpoints import reached_by
from libs.common.lifecycle import Process, run
from libs.common.outbox import OutboxRelay
from libs.common.postgres import Transactions, create_pool
from libs.common.publisher import Publisher
from libs.common.secrets import KeyRing
from libs.common.settings import read
from libs.connectors import registry
from libs.connectors.http import HttpClient
from libs.connectors.opening import Opener, clients_of
from services.poller.attend import Attendant, Bounds
from services.poller.settings import Settings
from services.poller.sources import Sources

SERVICE = "poller"
# How long a call waits for its slot before the integration's turn is put off: long enough for a
# busy account's page, short enough that a spent day does not hold a place.
PATIENCE_S = 60.0


def provider_of(arguments: list[str] | None = None) -> str:
    """Return which provider this process reads; end the process with usage if it is no source."""
    parser = argparse.ArgumentParser(prog="python -m services.poller")
    sources = sorted(
        name
        for name, each in registry.PROVIDERS.items()
        if each.facts.is_source or each.edits is not None
    )
    parser.add_argument("--provider", required=True, choices=sources)
    return str(parser.parse_args(arguments).provider)


async def main(process: Process, settings: Settings, provider: str) -> None:
    """Poll until told to stop."""
    pool = create_pool(
        settings.database_url,
        size_max=settings.database_pool_size_max,
        application_name=f"contactsync_{SERVICE}_{provider}",
    )
    transactions = Transactions(pool)
    http = HttpClient(environment=settings.environment, loopback_urls=settings.provider_base_urls)
    opener = Opener(
        http=http,
        transactions=transactions,
        keys=KeyRing.parse(settings.keys.reveal()),
        clock=process.clock,
        patience_s=PATIENCE_S,
        clients=clients_of(settings),
        base_urls=settings.provider_base_urls,
        paced=settings.rate_limits,
    )
    reached = reached_by(process.service, settings)
    try:
        async with Publisher(settings.kafka_bootstrap, source=SERVICE) as publisher:
            attendant = Attendant(
                provider,
                owner=ids.new(),
                sessions=transactions,
                open_source=Sources(opener),
                publish=publisher.publish,
                clock=process.clock,
                bounds=Bounds(
                    in_flight_max=settings.integrations_in_flight_max,
                    claim_every_s=settings.claim_every_s,
                    lease_s=settings.lease_s,
                    bulk_fetch_cap=settings.bulk_fetch_cap,
                ),
                reached=reached,
            )
            process.watch("attendant", live=attendant.is_alive, ready=attendant.is_ready)
            relay = OutboxRelay(
                transactions,
                "sync.outbox",
                publisher,
                claim_s=settings.outbox_claim_s,
                reached=reached,
            )
            relaying = process.start(relay.run(process.stop))
            await attendant.run(process.stop)
            # The broker's connection must outlive whoever publishes.
            await relaying
    finally:
        await http.aclose()
        await pool.close()


if __name__ == "__main__":
    _provider = provider_of()
    _settings = read(Settings)
    run(SERVICE, _settings, lambda process: main(process, _settings, _provider))
