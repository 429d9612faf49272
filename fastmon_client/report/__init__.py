"""The report for the next shift: from the monitor's tables and a dashboard's journal, as Markdown, HTML or JSON."""
