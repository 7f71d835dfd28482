"""The only door to a language model: every prompt of the product passes here."""
