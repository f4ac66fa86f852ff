#!/usr/bin/env bash
# The measurements of docs/benchmarks.md: every benchmark whose data is in the folder given, the others by name.
set -euo pipefail
data=${1:?usage: run.sh DATA_FOLDER}
here=$(dirname "${BASH_SOURCE[0]}")
python=${PYTHON:-python3}

hm=$data/hm-fashion-sample week=$data/hm-fashion-week
if [ -d "$hm" ] && [ -d "$week" ]; then
  files=(--articles "$hm/articles.parquet" --transactions "$hm/transactions.parquet" "$week/transactions.parquet"
         --images "$hm/images_160px.zip" "$week/images_160px.zip")
  "$python" "$here/hm.py" "${files[@]}" --cut 2020-09-21 --json
  "$python" "$here/hm.py" "${files[@]}" --customers --json
else
  echo "hm: skipped, $hm or $week is missing" >&2
fi
