"""Secrets that a row refers to by name: they stand in the environment, or in `.env`, and nowhere in the database."""

import os

from dotenv import dotenv_values


def named_secret(name: str) -> str | None:
    """The value of a variable, or None when it is not set or empty."""
    return os.environ.get(name) or dotenv_values(".env").get(name) or None
