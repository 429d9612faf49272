"""Shared by all packages: errors, clock, logs, backoff, rate limit, failpoints, sd_notify. No STFs, no SQL."""
