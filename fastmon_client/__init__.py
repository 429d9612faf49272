"""fastmon-client: shows the detector's data flow live from the monitor's event stream."""

__version__ = "0.1.0"
