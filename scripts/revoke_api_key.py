#!/usr/bin/env python3
"""Revokes an API key: `nexusrag keys revoke` under the name that earlier releases gave it."""

import sys

from nexusrag.cli.main import main

sys.argv[1:1] = ["keys", "revoke"]
main()
