"""SIGKILL at every point of a write's way, the repeated request, and a look at what stands afterwards: one effect, or none at all."""
