"""How STFs and run messages come in: from the broker's messages, or from watched folders (continuous mode).

Each is stored in one transaction before it is acknowledged. It must not know how an STF is processed.
"""

from fastmon_daemon.intake.handler import MessageHandler

__all__ = ["MessageHandler"]
