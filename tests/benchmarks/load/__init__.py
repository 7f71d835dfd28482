"""The load test: an installation under more and more load, and a report of it with plots."""
