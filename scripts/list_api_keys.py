#!/usr/bin/env python3
"""Lists a tenant's API keys: `nexusrag keys list` under the name that earlier releases gave it."""

import sys

from nexusrag.cli.main import main

sys.argv[1:1] = ["keys", "list"]
main()
