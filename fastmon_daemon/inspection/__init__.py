"""Read-only views of the daemon: `inspect`, and `/metrics` and `/healthz` over HTTP. Nothing here delays the engine."""
