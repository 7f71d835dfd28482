"""Processes and servers that die, at every point of a write and at moments of chance, and a look at what stands afterwards."""
