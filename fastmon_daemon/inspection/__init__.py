"""What is asked of the daemon, read-only: `inspect`, `/metrics` and the health endpoints over HTTP.

Nothing here writes to the database, and nothing here is in the way of the engine.
"""
