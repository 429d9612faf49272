"""How we stand among the other agents: name, heart-beats, stage reports, log lines, status messages.

Each has a lane of its own, with connections of their own: one that hangs or fails holds up nothing else, shuts no gate
and is no part of the main job. This room must not know steps, nor what a transition does.
"""

from fastmon_daemon.presence.checkup import Patient
from fastmon_daemon.presence.identity import agent_name
from fastmon_daemon.presence.presence import Citizen, Presence

__all__ = ["Citizen", "Patient", "Presence", "agent_name"]
