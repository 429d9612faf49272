"""How we stand among the other agents: name, heart-beats, stage reports, log lines, status messages.

Each has a lane of its own, with connections of their own: one that hangs or fails holds up nothing else, shuts no gate
and is no part of the main job. This room must not know steps, nor what a transition does.
"""

from fastmon_daemon.presence.agent import Presence
from fastmon_daemon.presence.health import HealthCheckConfig
from fastmon_daemon.presence.identity import agent_name
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.presence.stuck import LinkStatus, StuckRule, StuckStfs, latest_link_statuses

__all__ = [
    "HealthCheckConfig",
    "LinkStatus",
    "Presence",
    "StuckRule",
    "StuckStfs",
    "WorkerErrors",
    "agent_name",
    "latest_link_statuses",
]
