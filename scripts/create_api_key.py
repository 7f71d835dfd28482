#!/usr/bin/env python3
"""Makes an API key: `nexusrag keys create` under the name that earlier releases gave it."""

import sys

from nexusrag.cli.main import main

sys.argv[1:1] = ["keys", "create"]
main()
