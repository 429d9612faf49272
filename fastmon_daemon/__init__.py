"""fastmon-daemon: samples super time frames (STF), registers and announces their TF files, accounts for every one."""

__version__ = "0.1.0"
