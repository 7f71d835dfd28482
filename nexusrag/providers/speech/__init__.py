"""Spoken answers behind one port."""
