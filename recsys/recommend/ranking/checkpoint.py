"""Save and load rankers: `<models>/ranker/<version>/` with weights, trees, metrics, a manifest; `CURRENT` last.

In: a `LinearRanker` or `BoostedTreesRanker`. Out: its folder; loaded only if the checksums match the manifest.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from recsys._version import __version__
from recsys.artifacts.file_set import verify_file
from recsys.artifacts.model_folder import MANIFEST, write_version
from recsys.errors import ModelFolderError
from recsys.recommend.ranking.boosted_trees import BoostedTreesRanker
from recsys.recommend.ranking.linear import LinearRanker

_LINEAR_FILE, _TREES_FILE, _METRICS_FILE = "blend.json", "trees.txt", "metrics.json"


def save_ranker(
    ranker: LinearRanker | BoostedTreesRanker, folder: Path, *, encoder_version: str, data_fingerprint: str, seed: int
) -> Path:
    """Write a ranker to `folder/<version>` and point `folder/CURRENT` to it.

    Args:
        ranker: ranker to write.
        folder: `artifacts/models/ranker`.
        encoder_version: version of the encoder whose scores it was fitted on.
        data_fingerprint: of the data it was fitted on.
        seed: seed it was fitted with.

    Returns:
        The version's folder; the version is the first 12 hexadecimal digits of a SHA-256 over the digests of its files.
    """
    files = {name: text.encode() for name, text in _serialize(ranker).items()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    version = hashlib.sha256("".join(digests[name] for name in sorted(digests)).encode()).hexdigest()[:12]
    manifest = {
        "version": version,
        "encoder": encoder_version,
        "data_fingerprint": data_fingerprint,
        "seed": seed,
        "recsys": __version__,
        "files": {name: {"sha256": digests[name], "size": len(content)} for name, content in files.items()},
    }
    return write_version(folder, version, {**files, MANIFEST: json.dumps(manifest, indent=1).encode()})


def load_ranker(folder: Path) -> LinearRanker | BoostedTreesRanker:
    """Load the ranker of a version's folder.

    Raises:
        ModelFolderError: a file is missing or altered, or the ranker was fitted by another version.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        expected = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        files = {
            name: (folder / name).read_bytes()
            for name in (_LINEAR_FILE, _TREES_FILE, _METRICS_FILE)
            if name in expected
        }
        if _LINEAR_FILE not in files:
            raise KeyError(_LINEAR_FILE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(
            f"{folder}: not a complete ranker folder ({error}); run 'recsys train ranker'"
        ) from error
    for name, content in files.items():
        verify_file(folder / name, sha256=expected[name], content=content, advice="run 'recsys train ranker'")
    linear = LinearRanker.from_json(files[_LINEAR_FILE].decode())
    if _TREES_FILE not in files:
        return linear
    metrics = json.loads(files.get(_METRICS_FILE, b"{}"))
    ndcg = metrics.get("ndcg@10", {})
    return BoostedTreesRanker(
        linear,
        files[_TREES_FILE].decode(),
        float(metrics.get("lean", 0.0)),
        metrics.get("importance", {}),
        (_read_number(ndcg.get("trees")), _read_number(ndcg.get("weights"))),
    )


def ranker_metrics(ranker: LinearRanker | BoostedTreesRanker) -> dict[str, object]:
    """Return the ranker's metrics: kind, users and sources, for trees also weight, NDCG@10 and feature importance."""
    out: dict[str, object] = {"kind": "weights", "users": ranker.n_users, "sources": list(ranker.sources)}
    if isinstance(ranker, BoostedTreesRanker):
        numbers = {"trees": ranker.holdout_ndcg[0], "weights": ranker.holdout_ndcg[1]}
        # nan is not valid JSON
        json_numbers = {name: value if value == value else None for name, value in numbers.items()}
        out |= {"kind": "trees", "lean": ranker.linear_weight, "ndcg@10": json_numbers, "importance": ranker.importance}
    return out


def _read_number(value: float | None) -> float:
    """Return a number that `ranker_metrics` wrote, nan for null."""
    return float("nan") if value is None else float(value)


def _serialize(ranker: LinearRanker | BoostedTreesRanker) -> dict[str, str]:
    """Return the text of each of the ranker's files, by name."""
    metrics = {_METRICS_FILE: json.dumps(ranker_metrics(ranker), indent=1)}
    if isinstance(ranker, BoostedTreesRanker):
        return {_LINEAR_FILE: ranker.linear.to_json(), _TREES_FILE: ranker.model_text, **metrics}
    return {_LINEAR_FILE: ranker.to_json(), **metrics}
