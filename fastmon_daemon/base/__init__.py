"""What every package may use: errors, clock, logs, pauses and jitter, failpoints, sd_notify.

It knows nothing of STFs, SQL, HTTP or STOMP.
"""
