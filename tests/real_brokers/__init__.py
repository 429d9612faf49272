"""Tests against real brokers, and how these are installed, started and controlled."""
