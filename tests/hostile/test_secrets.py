"""What the other side echoes: token and password must not be stored, nor told."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.hostile.attack import Scene, attack
from tests.hostile.hostile_broker import HostileBroker
from tests.hostile.hostile_monitor import HostileMonitor
from tests.processes import TOKEN, wait_until

PASSWORD = "secret-word"


def echo_token(method: str, path: str, _status: int, body: bytes) -> tuple[int, bytes] | None:
    """Reject each TF file, with all that the request said."""
    if method == "POST" and "fastmon-files" in path and b"stf_file" not in body[:20]:
        return 400, json.dumps({"tf_count": [f"\x1b[31mrejected, Authorization: Token {TOKEN}"]}).encode()
    return None


@attack("errors that echo the token (monitor, 400) and the password (broker, ERROR), with escape sequences")
def test_echoed_secrets_are_neither_stored_nor_told(scene: Scene, tmp_path: Path) -> None:
    with HostileMonitor(scene.monitor.url) as monitor, HostileBroker(scene.broker.port) as broker:
        addresses = {"SWF_MONITOR_URL": monitor.url, "ACTIVEMQ_PORT": str(broker.port), "FASTMON_HTTP": "0"}
        daemon = scene.daemon(**addresses)
        monitor.change = echo_token
        with scene.attacked(daemon, feed=False):
            scene.register(1)
            scene.announce(1)
            scene.wait_for(failed=1)

            def reject(client: socket.socket) -> None:
                client.recv(65536)
                client.sendall(f"ERROR\nmessage:\x1b[31mlogin failed for passcode {PASSWORD}\n\n\0".encode())

            broker.answer = reject
            broker.cut()
            wait_until(lambda: "login failed" in scene.log(), "the broker rejects us")
            told = [scene.call(*words, **addresses) for words in (("inspect",), ("inspect", "--json"), ("export",))]
            scene.call("backup", str(tmp_path / "backup.db"), **addresses)
        texts = {
            "log": scene.log().encode(),
            **{" ".join(each.args): (each.stdout + each.stderr).encode() for each in told},
            **{path.name: path.read_bytes() for path in tmp_path.glob("*.db*") if path.is_file()},
        }
        assert b"rejected, Authorization: Token ***" in texts["log"]
        assert "backup.db" in texts
        for where, text in texts.items():
            assert TOKEN.encode() not in text, where
            assert PASSWORD.encode() not in text, where
            assert b"\x1b" not in text or ".db" in where, where
