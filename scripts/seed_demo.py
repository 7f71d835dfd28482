#!/usr/bin/env python3
"""Makes the demo corpus through the running API: `nexusrag seed` under the name that earlier releases gave it."""

import sys

from nexusrag.cli.main import main

sys.argv[1:1] = ["seed"]
main()
