"""`python -m services.notifier`: from decisions to mails."""

import asyncio
from email.message import EmailMessage

import aiosmtplib

from libs.common import database
from libs.common.consumer import Bounds, Consumer
from libs.common.events import Topic
from libs.common.failpoints import reached_by
from libs.common.lifecycle import Process, run
from libs.common.publisher import Publisher
from libs.common.settings import read
from services.notifier.notify import Recorder, Sender
from services.notifier.settings import Settings

SMTP_S = 30.0


async def main(process: Process, settings: Settings) -> None:
    """Wire events to notices and notices to SMTP, and run until told to stop."""

    async def send(message: EmailMessage) -> None:
        await aiosmtplib.send(
            message,
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            start_tls=settings.smtp_starttls,
            username=settings.smtp_username or None,
            password=settings.smtp_password.get_secret_value() or None,
            timeout=SMTP_S,
        )

    engine = database.create_engine(
        str(settings.database_url),
        pool_size_max=settings.database_pool_size_max,
        application_name=process.service,
    )
    sessions = database.session_maker(engine)
    wake = asyncio.Event()
    reached = reached_by(process.service, settings)
    try:
        async with Publisher(settings.kafka_bootstrap, source=process.service) as publisher:
            consumer = Consumer(
                settings.kafka_bootstrap,
                group=process.service,
                topics=[Topic.QUOTA_CHANGED, Topic.INTEGRATIONS_CHANGED],
                handler=Recorder(sessions, wake, reached=reached),
                publisher=publisher,
                bounds=Bounds.of(settings),
            )
            sender = Sender(
                sessions,
                send,
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


if __name__ == "__main__":
    settings = read(Settings)
    run("notifier", settings, lambda process: main(process, settings))
