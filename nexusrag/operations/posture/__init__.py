"""Posture: how authorization stands on this installation, from its settings and from what the database itself says of its walls."""
