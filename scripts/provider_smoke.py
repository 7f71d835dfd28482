#!/usr/bin/env python3
"""Tries a corpus's retrieval without a model: `nexusrag smoke` under the name that earlier releases gave it."""

import sys

from nexusrag.cli.main import main

sys.argv[1:1] = ["smoke"]
main()
