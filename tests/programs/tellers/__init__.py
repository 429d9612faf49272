"""The same runs, told by the monitor's tables, the daemon's verdict, and clients that were there early and late."""
