"""The ledger of the runs: what was heard of each, what the monitor names that we never heard of, and when it is over.

It must not know STOMP or HTTP. Its errands run in the engine's pool; their answers come back in the engine's thread.
"""
