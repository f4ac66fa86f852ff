#!/usr/bin/env bash
# The measurements of docs/benchmarks.md: every benchmark whose data is in the folder given, the others by name.
# With PEERS set to an interpreter that has RecTools, implicit and sentence-transformers, those are measured beside ours.
set -euo pipefail
data=${1:?usage: run.sh DATA_FOLDER}
here=$(dirname "${BASH_SOURCE[0]}")
python=${PYTHON:-python3}
peers=(${PEERS:+--peers "$PEERS"})

hm=$data/hm-fashion-sample week=$data/hm-fashion-week
if [ -d "$hm" ] && [ -d "$week" ]; then
  files=(--articles "$hm/articles.parquet" --transactions "$hm/transactions.parquet" "$week/transactions.parquet"
         --images "$hm/images_160px.zip" "$week/images_160px.zip")
  "$python" "$here/hm.py" "${files[@]}" --cut 2020-09-21 ${peers[@]+"${peers[@]}"} --json
  "$python" "$here/hm.py" "${files[@]}" --customers ${peers[@]+"${peers[@]}"} --json
  "$python" "$here/hm_ablation.py" "${files[@]}" --json
  "$python" "$here/hm_pictures.py" "${files[@]}" --json
  "$python" "$here/hm_representation.py" "${files[@]}" --json
  "$python" "$here/complete.py" "${files[@]}" --json
  "$python" "$here/find.py" "${files[@]}" --json
  "$python" "$here/encode.py" --articles "$hm/articles.parquet" --images "$hm/images_160px.zip" \
    ${peers[@]+"${peers[@]}"} --json
else
  echo "hm: skipped, $hm or $week is missing" >&2
fi

sequences=$data/amazon-sequential
for name in Beauty Sports_and_Outdoors; do
  if [ -f "$sequences/$name.txt" ]; then
    "$python" "$here/sequential.py" "$sequences/$name.txt" --attributes "$sequences/${name}_item2attributes.json" \
      --items "$sequences/${name}_items.parquet" ${peers[@]+"${peers[@]}"} --json
  else
    echo "sequential: skipped, $sequences/$name.txt is missing" >&2
  fi
done
video=$sequences/sasrec_Video.txt.gz
if [ -f "$video" ]; then
  "$python" "$here/sequential.py" "$video" ${peers[@]+"${peers[@]}"} --json
  "$python" "$here/sequence_speed.py" "$video" ${peers[@]+"${peers[@]}"} --json
else
  echo "sequential, sequence_speed: skipped, $video is missing" >&2
fi

fashion=$data/fashion-product-images
if [ -f "$fashion/styles.parquet" ]; then
  "$python" "$here/representation.py" --products "$fashion/styles.parquet" --images "$fashion/images_160px.zip" \
    --few-labels --ablate --json
  "$python" "$here/clusters.py" --products "$fashion/styles.parquet" --images "$fashion/images_160px.zip" --json
  if [ -n "${SOURCE:-}" ]; then  # a model folder of another shop
    "$python" "$here/transfer.py" --products "$fashion/styles.parquet" --images "$fashion/images_160px.zip" \
      --source "$SOURCE" --json
  fi
else
  echo "representation: skipped, $fashion/styles.parquet is missing" >&2
fi
"$python" "$here/embed.py" --json

retail=$data/uci-online-retail/online_retail.parquet
if [ -f "$retail" ]; then
  "$python" "$here/retail.py" "$retail" --json
else
  echo "retail: skipped, $retail is missing" >&2
fi
"$python" "$here/score.py" ${peers[@]+"${peers[@]}"} --json
"$python" "$here/search.py" --json
"$python" "$here/writeback.py" ${peers[@]+"${peers[@]}"} --json
"$python" "$here/intake.py" --json
"$python" "$here/all_users.py" --json
