"""The dashboard: one process holds the one stream, and any number of pages show its snapshots."""
