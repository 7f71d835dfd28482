"""Roles: the least role of each action, checked before anything is read."""
