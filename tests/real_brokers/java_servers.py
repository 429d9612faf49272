"""ActiveMQ Classic and Artemis, each in a Java process with its own configuration."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from tests.real_brokers.certificates import GOOD, INVALID, KEYSTORE_PASSWORD, Certificates
from tests.real_brokers.install import (
    ARTEMIS_VERSION,
    CLASSIC_HOME,
    NotInstalledError,
    artemis_home,
    classic_version,
    java,
)
from tests.real_brokers.interface import Server
from tests.real_brokers.processes import ServerProcess

_HERE = Path(__file__).parent
# With these, Artemis maps /topic/NAME to the multicast address NAME and /queue/NAME to the anycast address NAME.
_PREFIXES = "anycastPrefix=/queue/;multicastPrefix=/topic/"


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
    """Debian's ActiveMQ Classic, with its own configuration and data."""

    kind = "classic"

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder, certificates)
        if classic_version() is None:
            raise NotInstalledError("ActiveMQ Classic is missing: run python tests/real_brokers/install.py classic")
        values = {
            "data": folder / "data",
            "user": self.user,
            "reader": self.reader,
            "password": self.password,
            "port": self.port,
            "tls_good": self.tls_port,
            "keystore_good": certificates.servers[GOOD].keystore,
            "keystore_password": KEYSTORE_PASSWORD,
            "invalid_brokers": "\n".join(self._invalid_broker(name, certificates) for name in INVALID),
        }
        _write(folder / "activemq.xml", Template((_HERE / "classic.xml").read_text()).substitute(values))
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

    def _invalid_broker(self, name: str, certificates: Certificates) -> str:
        """Return another broker of the same process: in Classic, a certificate belongs to a broker, not to a port."""
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
    """Artemis with its own broker instance, written here because `artemis create` wants the password in argv."""

    kind = "artemis"
    version = ARTEMIS_VERSION

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder, certificates)
        home = artemis_home()
        if home is None:
            raise NotInstalledError("Artemis is missing: run python tests/real_brokers/install.py artemis")
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
        values = {
            "data": self.folder / "data",
            "port": self.port,
            "prefixes": _PREFIXES,
            "tls_acceptors": "\n".join(tls),
            "diverts": _documented("diverts"),
            "addresses": _documented("addresses"),
        }
        _write(etc / "broker.xml", Template((_HERE / "artemis.xml").read_text()).substitute(values))
        _write(etc / "bootstrap.xml", _BOOTSTRAP.format(broker=etc / "broker.xml"))
        _write(etc / "management.xml", '<management-context xmlns="http://activemq.apache.org/schema"/>\n')
        _write(etc / "login.config", _LOGIN)
        _write(
            etc / "artemis-users.properties",
            "".join(f"{user} = {self.password}\n" for user in (self.user, self.reader)),
        )
        _write(etc / "artemis-roles.properties", f"agents = {self.user}\nreaders = {self.reader}\n")
        _write(etc / "log4j2.properties", _LOG4J)


def _documented(element: str) -> str:
    """Return what docs/scaling.md writes inside *element* of broker.xml, for another address than the tests use."""
    text = (_HERE.parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```xml\n(.*?)```", text, re.DOTALL))
    found = "\n".join(re.findall(rf"<{element}>(.*?)</{element}>", blocks, re.DOTALL))
    return found.replace("epictopic", "documented")


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
