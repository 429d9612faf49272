"""The three brokers behind one interface: `Embedded`, `Classic`, `Artemis`.

Owns their configuration. It must not know what is asked of them, nor how they were installed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from string import Template
from typing import ClassVar

from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread
from tests.brokers.certificates import DOUBTFUL, GOOD, KEYSTORE_PASSWORD, Certificates
from tests.brokers.install import ARTEMIS_VERSION, CLASSIC_HOME, NotInstalledError, artemis_home, classic_version, java
from tests.brokers.processes import ServerProcess, free_ports

_HERE = Path(__file__).parent
_ENDLESS_S = 3600.0
# With these, Artemis takes /topic/NAME for the multicast and /queue/NAME for the anycast address NAME.
_PREFIXES = "anycastPrefix=/queue/;multicastPrefix=/topic/"


class Server(ABC):
    """A broker on loopback, at the same ports for life. Each act returns when it is done.

    `tls_ports` has "good" and, by what is wrong with its certificate, "wrong-host", "self-signed" and "expired".
    """

    kind: ClassVar[str]
    host = "localhost"
    user = "fastmon"
    password = "made-for-the-tests"

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        names = (GOOD, *DOUBTFUL)
        self.folder = folder
        self.ca_file = certificates.ca_file
        self.port, *tls = free_ports(1 + len(names))
        self.tls_ports = dict(zip(names, tls, strict=True))
        self.log = folder / "broker.log"

    @property
    def tls_port(self) -> int:
        """The one with a certificate to trust."""
        return self.tls_ports[GOOD]

    @property
    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def is_running(self) -> bool: ...

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None:
        """End as an operator would end it; what was persistent is there after the next `start`."""

    @abstractmethod
    def kill(self) -> None:
        """End without a word (SIGKILL)."""

    @abstractmethod
    def pause(self) -> None:
        """Fall silent (SIGSTOP): connections stay open, nothing is read or answered."""

    @abstractmethod
    def resume(self) -> None:
        """End a `pause`."""


class _JavaServer(Server):
    process: ServerProcess

    def is_running(self) -> bool:
        return self.process.is_running

    def start(self) -> None:
        self.process.start([self.port, *self.tls_ports.values()])

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def _java(self, *arguments: str) -> ServerProcess:
        small = ["-Xms64M", "-Xmx768M", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]
        (self.folder / "tmp").mkdir(exist_ok=True)
        command = [java(), *small, f"-Djava.io.tmpdir={self.folder / 'tmp'}", *arguments]
        return ServerProcess(command, self.folder, self.log)


class Classic(_JavaServer):
    """ActiveMQ Classic as Debian packages it, with a configuration and data of its own."""

    kind = "classic"

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder, certificates)
        if classic_version() is None:
            raise NotInstalledError("ActiveMQ Classic is missing: run python tests/brokers/install.py classic")
        facts = {
            "data": folder / "data",
            "user": self.user,
            "password": self.password,
            "port": self.port,
            "tls_good": self.tls_port,
            "keystore_good": certificates.servers[GOOD].keystore,
            "keystore_password": KEYSTORE_PASSWORD,
            "doubtful_brokers": "\n".join(self._doubtful(name, certificates) for name in DOUBTFUL),
        }
        _write(folder / "activemq.xml", Template((_HERE / "classic.xml").read_text()).substitute(facts))
        _write(folder / "log4j.properties", _LOG4J_1)
        self.process = self._java(
            f"-Dactivemq.home={CLASSIC_HOME}",
            f"-Dactivemq.base={folder}",
            f"-Dactivemq.conf={folder}",
            f"-Dactivemq.data={folder / 'data'}",
            f"-Dlog4j.configuration=file:{folder / 'log4j.properties'}",
            "-jar",
            str(CLASSIC_HOME / "bin" / "activemq.jar"),
            "start",
            f"xbean:file:{folder / 'activemq.xml'}",
        )

    @property
    def version(self) -> str:
        return classic_version() or "none"

    def _doubtful(self, name: str, certificates: Certificates) -> str:
        """A second broker in the same process: in Classic a certificate is a property of the broker, not of a port."""
        return f"""
  <broker xmlns="http://activemq.apache.org/schema/core" id="{name}" brokerName="{name}" persistent="false"
          useJmx="false" start="true" schedulerSupport="false" dataDirectory="{self.folder / name}">
    <sslContext>
      <sslContext keyStore="file:{certificates.servers[name].keystore}" keyStoreType="PKCS12"
                  keyStorePassword="{KEYSTORE_PASSWORD}"/>
    </sslContext>
    <transportConnectors>
      <transportConnector name="{name}-ssl" uri="stomp+ssl://127.0.0.1:{self.tls_ports[name]}"/>
    </transportConnectors>
  </broker>"""


class Artemis(_JavaServer):
    """Artemis with a broker instance of its own, written here rather than by `artemis create`: no password in argv."""

    kind = "artemis"
    version = ARTEMIS_VERSION

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder, certificates)
        home = artemis_home()
        if home is None:
            raise NotInstalledError("Artemis is missing: run python tests/brokers/install.py artemis")
        etc = folder / "etc"
        etc.mkdir(exist_ok=True)
        self._write_etc(etc, certificates)
        self.process = self._java(
            f"-Djava.security.auth.login.config={etc / 'login.config'}",
            f"-Dlog4j2.configurationFile={etc / 'log4j2.properties'}",
            f"-Dartemis.home={home}",
            f"-Dartemis.instance={folder}",
            f"-Dartemis.instance.etc={etc}",
            f"-Ddata.dir={folder / 'data'}",
            "-classpath",
            str(home / "lib" / "artemis-boot.jar"),
            "org.apache.activemq.artemis.boot.Artemis",
            "run",
        )

    def _write_etc(self, etc: Path, certificates: Certificates) -> None:
        tls = [
            f'      <acceptor name="{name}">tcp://127.0.0.1:{port}?protocols=STOMP;{_PREFIXES};sslEnabled=true;'
            f"keyStoreType=PKCS12;keyStorePath={certificates.servers[name].keystore};"
            f"keyStorePassword={KEYSTORE_PASSWORD}</acceptor>"
            for name, port in self.tls_ports.items()
        ]
        facts = {
            "data": self.folder / "data",
            "port": self.port,
            "prefixes": _PREFIXES,
            "tls_acceptors": "\n".join(tls),
        }
        _write(etc / "broker.xml", Template((_HERE / "artemis.xml").read_text()).substitute(facts))
        _write(etc / "bootstrap.xml", _BOOTSTRAP.format(broker=etc / "broker.xml"))
        _write(etc / "management.xml", '<management-context xmlns="http://activemq.apache.org/schema"/>\n')
        _write(etc / "login.config", _LOGIN)
        _write(etc / "artemis-users.properties", f"{self.user} = {self.password}\n")
        _write(etc / "artemis-roles.properties", f"agents = {self.user}\n")
        _write(etc / "log4j2.properties", _LOG4J)


class Embedded(Server):
    """The testbed's own broker, in a thread."""

    kind = "embedded"
    version = "of this checkout"

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder, certificates)
        self.log.write_text("the embedded broker keeps no log\n")
        self._certificates = certificates
        self._threads: list[BrokerThread] = []
        self._life = ExitStack()
        self._up = False

    def is_running(self) -> bool:
        return self._up

    def start(self) -> None:
        if not self._threads:
            contexts = {
                port: self._certificates.servers[name].server_context() for name, port in self.tls_ports.items()
            }
            for port in (self.port, *self.tls_ports.values()):
                broker = Broker(user=self.user, password=self.password, duplicate_detection=True)
                thread = BrokerThread(broker, port=port, ssl=contexts.get(port))
                self._threads.append(self._life.enter_context(thread))
        elif not self._up:
            for thread in self._threads:
                thread.start()
        self._up = True

    def stop(self) -> None:
        if self._up:
            for thread in self._threads:
                thread.stop()
        self._up = False

    def kill(self) -> None:
        self.stop()

    def pause(self) -> None:
        for thread in self._threads:
            thread.call(lambda broker=thread.broker: broker.silent(_ENDLESS_S))

    def resume(self) -> None:
        for thread in self._threads:
            thread.call(lambda broker=thread.broker: broker.silent(0))

    def close(self) -> None:
        """End its threads, after the last test."""
        self._life.close()


KINDS: dict[str, type[Server]] = {server.kind: server for server in (Embedded, Classic, Artemis)}


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


_BOOTSTRAP = """<broker xmlns="http://activemq.apache.org/schema">
  <jaas-security domain="activemq"/>
  <server configuration="file:{broker}"/>
</broker>
"""
_LOGIN = """activemq {
   org.apache.activemq.artemis.spi.core.security.jaas.PropertiesLoginModule required
     org.apache.activemq.jaas.properties.user="artemis-users.properties"
     org.apache.activemq.jaas.properties.role="artemis-roles.properties";
};
"""
_LOG4J = """rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
logger.audit.name = org.apache.activemq.audit
logger.audit.level = OFF
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %-5level [%logger] %msg%n
"""
_LOG4J_1 = """log4j.rootLogger = INFO, console
log4j.appender.console = org.apache.log4j.ConsoleAppender
log4j.appender.console.layout = org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern = %d %-5p [%c] %m%n
"""
