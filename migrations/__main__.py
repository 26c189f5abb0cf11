"""`python -m migrations`: bring the database and the topics to what this version needs.

    python -m migrations upgrade --database-url URL [--kafka-bootstrap HOST:PORT]
                                 [--partitions N] [--replication N]

Run it before the new services start; it only ever adds.
"""

import argparse
import asyncio
import sys

import asyncpg
from aiokafka.errors import KafkaError

import migrations
from libs.common import topics


def main() -> None:
    """Read the arguments and do as they say."""
    parser = argparse.ArgumentParser(prog="python -m migrations", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    upgrade = commands.add_parser("upgrade", help="database, and topics where a broker is named")
    upgrade.add_argument("--database-url", required=True, help="the owner's address")
    upgrade.add_argument("--kafka-bootstrap", help="host:port of a broker")
    upgrade.add_argument("--partitions", type=int, default=48)
    upgrade.add_argument("--replication", type=int, default=3)
    wanted = parser.parse_args()
    try:
        migrations.upgrade(wanted.database_url)
    except (OSError, asyncpg.PostgresError) as error:
        sys.exit(f"the database can not be migrated: {error}; check --database-url and its role")
    if wanted.kafka_bootstrap:
        _make_topics(wanted)


def _make_topics(wanted: argparse.Namespace) -> None:
    making = topics.create_topics(
        wanted.kafka_bootstrap, partitions=wanted.partitions, replication=wanted.replication
    )
    try:
        asyncio.run(making)
    except (topics.TopicLayoutError, topics.TopicCreationError, KafkaError) as error:
        sys.exit(f"the topics can not be made: {error}; check --kafka-bootstrap")


if __name__ == "__main__":
    main()
