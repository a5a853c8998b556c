#!/usr/bin/env python3
"""Finds chemicals: tallyman run documents.jsonl --project my-corpus --exec 'python3 examples/exec/chemicals.py'"""
import json
import re
import sys

for line in sys.stdin:  # an item a line, an answer a line
    text = json.loads(line).get("text", "")
    found = [{"span": {"begin": m.start(), "end": m.end()}, "obj": "Chemical"}
             for m in re.finditer("aspirin|caffeine", text, re.IGNORECASE)]
    print(json.dumps({"result": {"annotations": {"denotations": found}}}), flush=True)
