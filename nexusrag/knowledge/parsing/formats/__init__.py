"""Parsing: one module per format turns bytes into a `ParsedDocument`. Runs only in the sandbox's subprocess."""
