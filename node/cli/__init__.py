"""The command line: thin typer commands, one file per group."""
