"""Document permissions: who was granted what on which document. Owners may do everything; expired grants count for nothing."""
