#!/usr/bin/env python3
"""Counts the words of each item: tallyman run items.jsonl --exec 'python3 examples/exec/words.py'"""
import json
import sys

for line in sys.stdin:  # an item a line, an answer a line
    text = json.loads(line).get("text")
    if isinstance(text, str):
        answer = {"result": {"words": len(text.split())}}
    else:
        answer = {"error": "There is no text.", "code": "NO_TEXT", "path": "text"}
    print(json.dumps(answer), flush=True)  # at once, or nothing goes on
