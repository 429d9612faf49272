"""Shared by all packages: errors, clock, logs, backoff, rate limit, failpoints, sd_notify; nothing about STFs or SQL."""
