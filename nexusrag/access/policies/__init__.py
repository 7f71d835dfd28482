"""The language of policies (ABAC): reading a condition, deciding by it here, and giving what depends on rows to PostgreSQL.

Both sides answer alike for every input. This domain never decides by itself who may do what: the pipeline and the visibility of
documents ask it.
"""
