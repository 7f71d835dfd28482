"""Autoscaling: how many replicas there should be by what was measured, and who carries it out. Never acts in a dry run."""
