"""The live view on a terminal: `view` renders a snapshot, `screen` draws it."""

from fastmon_client.live.screen import show_live
from fastmon_client.live.view import render

__all__ = ["render", "show_live"]
