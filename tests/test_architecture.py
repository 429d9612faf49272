"""The layout: a package imports only from levels below its own, a module only from those listed before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DAEMON = ROOT / "fastmon_daemon"

LEVELS = (
    {"base"},
    {"settings", "statechart", "messages", "broker"},
    {"monitor", "outbox"},
    {"runs", "engine", "presence"},
    {"intake", "reconciler", "inspection"},
    {"actions"},
    {"service"},
    {"checks"},
    {"commands"},
    {"cli"},
    {"__main__"},
)

MODULES_IN_ORDER = {
    "base": "links errors metrics text users suggest clock failpoints sd_notify rate_limit backoff network "
    "log_throttle logs output",
    "settings": "fields files environment database_path loader schema exposure",
    "statechart": "machine diagram",
    "messages": "fields accepted inbound outbound",
    "broker": "parameters frame_filter transport unacked_buffer session connector connection probe",
    "monitor": "responses rows failures transport row_stream rest_client client agent_client directory stf_registrar",
    "outbox": "sqlite_errors run_merging schema models queries outages retention stage_reports acts periods runs "
    "reader store counting file_checks lock database disk_space integrity backup pruner",
    "runs": "run_events poll_state peers tracked_runs",
    "engine": "concurrency_limits sampling selection_fractions parents steps tasks inbox circuit_breakers outliers "
    "scheduler transitions engine",
    "presence": "stuck identity periodic_worker assessment health heartbeat log_shipping stage_rows lost_ids stages "
    "status agent",
    "intake": "found_files seen_file_cache watcher foreign_namespaces shared_queue handler",
    "reconciler": "config verdict downtime finishing unknown_runs backfill listing comparing reconciler",
    "inspection": "inspector liveness metrics endpoints bounded_server http_server",
    "actions": "control_socket operator_actions daemon_state",
    "service": "process clients brokers factories offline_reconcile live_settings status_line daemon",
    "checks": "runner local broker monitor",
    "commands": "formatting common inspect_tables action_commands inspect top acts report verdict reconcile export "
    "backup diagram config check healthcheck reload files schema completion run testbed daq demo",
}
"""Each package's modules from the lowest to the highest; its front, `__init__`, is above them all."""

CLIENT_IN_ORDER = (
    "addresses arrivals intervals reasons retrying selection silence snapshot standard_output shutdown rates "
    "event_splitter log_throttle stomp_frames transport tffile row_stream formatting files state_folder journal_file "
    "shifts environment agents verdict stfs connection runs archive alarms message_filter app_state broker_config "
    "trust monitor_session monitor_tables profile reference query_worker settings stream stream_manager topic_stream "
    "diagnostics output session options summary report dashboard live cli __main__"
)
"""The client's modules and packages from the lowest to the highest."""

ONLY_IMPORTER = {
    "stomp": "broker",
    "requests": "monitor",
    "transitions": "statechart",
    "tenacity": "base",
    "watchdog": "intake",
}


def level_of(package: str) -> int:
    return next(level for level, packages in enumerate(LEVELS) if package in packages)


def package_of(module: Path) -> str:
    return module.relative_to(DAEMON).parts[0].removesuffix(".py")


def imports(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def libraries(module: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(module)}


def imported_from_ours(module: Path) -> Iterator[list[str]]:
    """What a module imports of the daemon, as path below `fastmon_daemon`."""
    for name in imports(module):
        package, *rest = name.split(".")
        if package == "fastmon_daemon" and rest[0] != "__version__":
            yield rest


MODULES = [module for module in sorted(DAEMON.rglob("*.py")) if package_of(module) not in {"__init__", "testbed"}]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_a_module_imports_only_what_is_below_it(module: Path) -> None:
    own = package_of(module)
    for package, *rest in imported_from_ours(module):
        if package == "testbed":
            assert module.stem in {"testbed", "daq", "demo"}, f"the running daemon imports {package}"
        elif package != own:
            assert level_of(package) < level_of(own), f"{own} imports {package}"
        elif module.stem != "__init__":
            order = MODULES_IN_ORDER[own].split()
            assert rest[0] in order, f"{module} imports the front of its own package"
            assert order.index(rest[0]) < order.index(module.stem), f"{own}: {module.stem} imports {rest[0]}"


def test_every_module_has_its_place() -> None:
    found = {(package_of(module), module.stem) for module in MODULES if module.parent != DAEMON}
    listed = {(package, name) for package, names in MODULES_IN_ORDER.items() for name in [*names.split(), "__init__"]}
    assert found == listed
    assert {package_of(module) for module in MODULES} == set().union(*LEVELS)


@pytest.mark.field("0d")
@pytest.mark.parametrize(("library", "owner"), ONLY_IMPORTER.items())
def test_each_edge_has_one_importer(library: str, owner: str) -> None:
    importers = {package_of(module) for module in MODULES if library in libraries(module)}
    assert importers - {"engine"} == {owner}  # the engine names the type of the policy that it is given


@pytest.mark.field("0d")
def test_sql_stands_in_the_outbox_only() -> None:
    importers = {package_of(module) for module in MODULES if libraries(module) & {"sqlite3", "sqlite_utils"}}
    assert importers == {"outbox"}


@pytest.mark.field("0d")
def test_a_state_changes_only_where_a_trigger_is_fired_on_the_machine() -> None:
    changing = {}
    for module in MODULES:
        called = {node.func.attr for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
                  if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}  # fmt: skip
        if called & {"move", "set_state"} and package_of(module) != "outbox":
            changing[module.stem] = "after" in called
    assert changing == dict.fromkeys(("transitions", "run_events", "finishing", "operator_actions"), True)


@pytest.mark.parametrize("package", ["fastmon_daemon", "fastmon_client"])
def test_no_log_shows_local_variables(package: str) -> None:
    """A traceback with the values of variables would show secrets that nobody redacts."""
    sinks = 0
    for module in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logger.add":
                sinks += 1
                assert {"diagnose": "False", "backtrace": "False"}.items() <= {
                    each.arg: ast.unparse(each.value) for each in node.keywords
                }.items(), module
    assert sinks


def test_a_module_of_the_client_imports_only_what_is_below_it() -> None:
    client, order = ROOT / "fastmon_client", CLIENT_IN_ORDER.split()
    places = {path.relative_to(client).parts[0].removesuffix(".py") for path in client.rglob("*.py")}
    assert places - {"__init__"} == set(order)
    for path in client.rglob("*.py"):
        own = path.relative_to(client).parts[0].removesuffix(".py")
        for name in imports(path):
            package, *rest = name.split(".")
            if package == "fastmon_client" and rest[0] in order and rest[0] != own:
                assert order.index(rest[0]) < order.index(own), f"{path}: {own} imports {rest[0]}"


@pytest.mark.field("0d")
def test_retries_of_the_client_have_one_module() -> None:
    client = ROOT / "fastmon_client"
    importers = {path.stem for path in client.rglob("*.py") if "tenacity" in libraries(path)}
    assert importers == {"retrying", "stream"}  # the stream makes the pauses that tenacity chooses


def test_daemon_and_client_share_nothing() -> None:
    for module in (ROOT / "fastmon_client").rglob("*.py"):
        assert "fastmon_daemon" not in libraries(module), module
    for module in DAEMON.rglob("*.py"):
        assert "fastmon_client" not in libraries(module), module


@pytest.mark.parametrize("command", ["inspect", "verdict", "export", "healthcheck"])
def test_a_read_only_command_does_not_import_the_network_libraries(command: str) -> None:
    listing = f"import sys, fastmon_daemon.cli, fastmon_daemon.commands.{command}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.split()
    assert not {"requests", "stomp", "watchdog", "prometheus_client"} & set(loaded)
