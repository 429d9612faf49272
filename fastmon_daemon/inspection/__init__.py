"""Read-only views of the daemon: `inspect`, and probes, status and metrics over HTTP. Nothing here delays the engine."""
