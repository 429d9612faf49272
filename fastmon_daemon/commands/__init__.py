"""One module per subcommand of `fastmon-daemon`: words in, tables and exit codes out."""
