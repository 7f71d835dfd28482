"""Where stored objects lie: a directory or an S3 bucket, behind one port. Sees ciphertext only."""
