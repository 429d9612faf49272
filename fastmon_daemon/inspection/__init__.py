"""Read-only views of the daemon: `inspect`; probes, status and metrics over HTTP. Nothing here delays the engine."""
