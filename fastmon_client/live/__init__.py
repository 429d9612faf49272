"""The live view on a terminal: `navigation` says what a key does, `view` renders, `screen` draws, `app` joins them."""

from fastmon_client.live.app import LiveView
from fastmon_client.live.view import Model, render

__all__ = ["LiveView", "Model", "render"]
