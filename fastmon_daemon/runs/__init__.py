"""What is known of the runs: the events heard of each, and all that this process remembers of it until it is purged.

It must not know who asks the monitor or when: the reconciler does.
"""
