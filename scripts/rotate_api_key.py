#!/usr/bin/env python3
"""Replaces an API key: `nexusrag keys rotate` under the name that earlier releases gave it."""

import sys

from nexusrag.cli.main import main

sys.argv[1:1] = ["keys", "rotate"]
main()
