"""One thin script an entry point: parse, then call the stage."""
