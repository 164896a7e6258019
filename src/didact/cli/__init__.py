"""The command line: one thin command per verb. Parse, call the API, print the result."""

from didact.cli.app import app, main

__all__ = ["app", "main"]
