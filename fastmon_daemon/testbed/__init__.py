"""The embedded testbed: a STOMP broker, a monitor and a DAQ on loopback, for the demo, the tests and newcomers.

The running daemon never imports it.
"""
