"""Maintenance: removes what has been kept for long enough, daily and when asked for. Owns the table of its runs."""
