"""The dashboard: one process reads one stream and serves its snapshots to any number of pages."""
