"""The command line: a file a command. What a command needs is imported when it runs."""
