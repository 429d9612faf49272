"""Intake: receives STFs and run messages from the broker, or finds STF files in watched folders (continuous mode).

Each one is stored in one transaction before it is acknowledged. Intake does not process STFs.
"""
