"""Service levels: policies, measurements, how each tenant stands with its policy, incidents, and what a request is spared for it.

Never asks the database on a request's way: a process decides by what it was told, and lets everything through when it was told nothing.
"""
