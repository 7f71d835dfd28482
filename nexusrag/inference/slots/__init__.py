"""Places among the calls of the language model that all processes may make at once. Never holds a database connection while it waits."""
