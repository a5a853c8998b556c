#!/bin/sh
# Keeps all items of a batch in a file, which a later attempt replaces: it may be repeated.
#   OUT=/tmp/out tallyman run items.jsonl --exec-mode batch --exec-output text --exec 'sh examples/exec/batch.sh'
set -e # any other exit code than 0 makes the batch fail, and 75 says that the reason will pass
[ -d "${OUT:=.}" ] || exit 75
file=$OUT/$TALLYMAN_JOB_ID-$TALLYMAN_BATCH_ID.jsonl
cat >"$file.$TALLYMAN_ATTEMPT"
mv "$file.$TALLYMAN_ATTEMPT" "$file"
printf %s "$file" # the result
