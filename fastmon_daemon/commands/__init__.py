"""The subcommands of `fastmon-daemon`, one module each (`action_commands` has five), and what they share."""
