"""`python -m services.notifier [mails FOLDER]`: from decisions to mails.

(nothing)      record what is decided, and mail it
mails FOLDER   write a sample of every mail, as HTML and as text (docs/mails)
"""

import argparse
import asyncio
from pathlib import Path

from libs.common import database
from libs.common.consumer import Bounds, Consumer
from libs.common.events import Topic
from libs.common.failpoints import reached_by
from libs.common.lifecycle import Process, run
from libs.common.publisher import Publisher
from libs.common.settings import read
from services.notifier import samples
from services.notifier.notify import Recorder, Sender
from services.notifier.settings import Settings
from services.notifier.smtp import sender_by
from services.notifier.store import Recipient


async def main(process: Process, settings: Settings) -> None:
    """Wire events to notices and notices to SMTP, and run until told to stop."""
    engine = database.create_engine(
        settings.database_url,
        pool_size_max=settings.database_pool_size_max,
        application_name=process.service,
    )
    sessions = database.session_maker(engine)
    wake = asyncio.Event()
    reached = reached_by(process.service, settings)
    operator = None
    if settings.operator_email is not None:
        operator = Recipient(settings.operator_email, settings.operator_language)
    try:
        async with Publisher(settings.kafka_bootstrap, source=process.service) as publisher:
            consumer = Consumer(
                settings.kafka_bootstrap,
                group=process.service,
                topics=[Topic.QUOTA_CHANGED, Topic.INTEGRATIONS_CHANGED],
                handler=Recorder(sessions, wake, operator=operator, reached=reached),
                publisher=publisher,
                bounds=Bounds.of(settings),
            )
            sender = Sender(
                sessions,
                sender_by(settings),
                wake,
                sender=settings.mail_from,
                url=settings.console_url,
                claim_s=settings.claim_s,
                sweep_s=settings.sweep_s,
                reached=reached,
            )
            process.watch("consumer", live=consumer.is_alive, ready=consumer.is_ready)
            _ = process.start(sender.run(process.stop))
            await consumer.run(process.stop)
    finally:
        await engine.dispose()


def _serve() -> None:
    settings = read(Settings)
    run("notifier", settings, lambda process: main(process, settings))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m services.notifier")
    commands = parser.add_subparsers(dest="command", required=False)
    mails = commands.add_parser("mails", help="write a sample of every mail")
    mails.add_argument("folder", type=Path)
    wanted = parser.parse_args()
    if wanted.command == "mails":
        samples.write(wanted.folder)
    else:
        _serve()
