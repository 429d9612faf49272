"""Real brokers for the tests: how they are installed, started, hurt and asked."""
