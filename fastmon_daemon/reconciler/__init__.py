"""The reconciler: compares the runs that we know with the monitor's, recovers missed STFs, and completes runs.

It knows neither STOMP nor HTTP. Its background tasks run in the engine's pool, and their answers are handled in the
engine's thread.
"""
