"""One thin script an entry point: parse, then run the command."""
