"""The daemon as an agent of the testbed: name, heart-beats, stage reports, log shipping, status messages, health.

Each reporter has its own thread and connections: one that hangs or fails delays no STF and trips no circuit breaker.
"""
