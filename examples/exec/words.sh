#!/bin/sh
# Counts the words of each item: tallyman run items.jsonl --exec 'sh examples/exec/words.sh'
while IFS= read -r line; do # an item a line, an answer a line
  case $line in
    *'"text":'*) printf '{"result":{"words":%d}}\n' "$(printf %s "${line#*'"text":'}" | wc -w)" ;;
    *) echo '{"error":"There is no text.","code":"NO_TEXT","path":"text"}' ;;
  esac
done
