"""The live view on a terminal: `view` says what stands on the screen, `screen` puts it there."""

from fastmon_client.live.screen import show_live
from fastmon_client.live.view import render

__all__ = ["render", "show_live"]
