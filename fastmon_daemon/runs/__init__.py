"""Runs: the events received of each run, and all that this process remembers of it.

Knows neither when nor how the monitor is polled: the reconciler does.
"""
