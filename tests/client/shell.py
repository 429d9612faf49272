"""Runs a command of bash with job control: `python -m tests.client.shell COMMAND`."""

import os
import sys

if __name__ == "__main__":
    os.execvp("bash", ["bash", "-c", sys.argv[1]])
