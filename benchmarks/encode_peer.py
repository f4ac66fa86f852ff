"""sentence-transformers encoding texts, round by round, in an environment of its own.

In: a folder with texts.json, the folder of a model; "VARIANT" lines on stdin, default or bf16. Out: there
VARIANT.npy with the vectors, and for each line on stdin a line of JSON with the seconds. Imports nothing of ours:

    PEERS_PYTHON benchmarks/encode_peer.py FOLDER MODEL
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path

import numpy as np


def main() -> int:
    import torch
    from sentence_transformers import SentenceTransformer

    folder, model = Path(sys.argv[1]), SentenceTransformer(sys.argv[2], device="cpu", local_files_only=True)
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    names = ("sentence-transformers", "transformers", "torch")
    print(json.dumps({"versions": {name: metadata.version(name) for name in names}}), flush=True)
    for line in sys.stdin:
        variant = line.strip()
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16) if variant == "bf16" else nullcontext():
            vectors = model.encode(texts, show_progress_bar=False, normalize_embeddings=True, convert_to_numpy=True)
        spent = time.perf_counter() - started
        np.save(folder / f"{variant}.npy", np.asarray(vectors, np.float32))
        print(json.dumps({"seconds": spent}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
