"""Ranker folders: `<models>/ranker/<version>/` with weights, trees where there are any, a manifest; `CURRENT` last.

In: a `LinearRanker` or `BoostedTreesRanker`. Out: its folder; read back only when the files are those that were written.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from recsys._version import __version__
from recsys.artifacts.model_folder import MANIFEST, write_version
from recsys.errors import ModelFolderError
from recsys.recommend.ranking.boosted_trees import BoostedTreesRanker
from recsys.recommend.ranking.linear import LinearRanker

_BLEND, _TREES, _METRICS = "blend.json", "trees.txt", "metrics.json"


def save_ranker(
    ranker: LinearRanker | BoostedTreesRanker, folder: Path, *, encoder: str, data_fingerprint: str, seed: int
) -> Path:
    """Write a ranker to `folder/<version>` and point `folder/CURRENT` at it.

    Args:
        ranker: what to write.
        folder: `artifacts/models/ranker`.
        encoder: version of the encoder whose scores it was fitted on.
        data_fingerprint: of the data it was fitted on.
        seed: it was fitted with.

    Returns:
        The version's folder; the version is the first 12 hexadecimal digits of a sha256 over all it holds.
    """
    held = {name: text.encode() for name, text in _texts(ranker).items()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in held.items()}
    version = hashlib.sha256("".join(digests[name] for name in sorted(digests)).encode()).hexdigest()[:12]
    manifest = {
        "version": version,
        "encoder": encoder,
        "data_fingerprint": data_fingerprint,
        "seed": seed,
        "recsys": __version__,
        "files": {name: {"sha256": digests[name], "size": len(content)} for name, content in held.items()},
    }
    return write_version(folder, version, {**held, MANIFEST: json.dumps(manifest, indent=1).encode()})


def load_ranker(folder: Path) -> LinearRanker | BoostedTreesRanker:
    """Read a version's folder.

    Raises:
        ModelFolderError: a file is missing or altered, or the ranker is of another version.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        expected = {name: facts["sha256"] for name, facts in manifest["files"].items()}
        held = {name: (folder / name).read_bytes() for name in (_BLEND, _TREES, _METRICS) if name in expected}
        if _BLEND not in held:
            raise KeyError(_BLEND)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(
            f"{folder}: not a complete ranker folder ({error}); run 'recsys train ranker'"
        ) from error
    for name, content in held.items():
        if hashlib.sha256(content).hexdigest() != expected[name]:
            raise ModelFolderError(f"{folder / name}: altered since it was written; run 'recsys train ranker'")
    blend = LinearRanker.from_json(held[_BLEND].decode())
    if _TREES not in held:
        return blend
    metrics = json.loads(held.get(_METRICS, b"{}"))
    ndcg = metrics.get("ndcg@10", {})
    return BoostedTreesRanker(
        blend,
        held[_TREES].decode(),
        float(metrics.get("lean", 0.0)),
        metrics.get("importance", {}),
        (_number(ndcg.get("trees")), _number(ndcg.get("weights"))),
    )


def ranker_metrics(ranker: LinearRanker | BoostedTreesRanker) -> dict[str, object]:
    """What is worth knowing of a ranker: its kind, what it was fitted on, what it looks at most."""
    out: dict[str, object] = {"kind": "weights", "users": ranker.n_users, "sources": list(ranker.sources)}
    if isinstance(ranker, BoostedTreesRanker):
        numbers = {"trees": ranker.ndcg[0], "weights": ranker.ndcg[1]}
        # nan is no JSON
        shown = {name: value if value == value else None for name, value in numbers.items()}
        out |= {"kind": "trees", "lean": ranker.linear_weight, "ndcg@10": shown, "importance": ranker.importance}
    return out


def _number(value: float | None) -> float:
    """What `ranker_metrics` wrote, nan for null."""
    return float("nan") if value is None else float(value)


def _texts(ranker: LinearRanker | BoostedTreesRanker) -> dict[str, str]:
    """The files of a ranker: name and text."""
    weights = {_METRICS: json.dumps(ranker_metrics(ranker), indent=1)}
    if isinstance(ranker, BoostedTreesRanker):
        return {_BLEND: ranker.blend.to_json(), _TREES: ranker.text, **weights}
    return {_BLEND: ranker.to_json(), **weights}
