import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.tokenize import tokenize
from recsys.encoder.modalities.bag_of_words import MAX_WORDS, BagOfWordsEncoder

DOCUMENTS = [["black", "boots"], ["black", "dress"], ["black", "feven"], ["dress", "feven"], ["once"]]


def test_rare_words_weigh_more_and_words_of_one_document_share_spare_vectors() -> None:
    field = BagOfWordsEncoder.fit(DOCUMENTS, 8)
    assert field.vocabulary == ["black", "dress", "feven"]
    numbers = field.token_ids(["black", "feven", "once"])
    black, feven, once = numbers.values()
    assert black < feven <= once
    assert len(set(numbers)) == 3
    assert min(numbers) >= 1
    assert max(numbers) < field.embedding.num_embeddings


@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_text_has_words_that_have_a_vector(texts: list[str]) -> None:
    field = BagOfWordsEncoder.fit(DOCUMENTS, 8)
    x = field.pad([field.token_ids(tokenize(text)) for text in texts])
    assert x["words"].shape == x["weights"].shape
    assert x["words"].shape[1] <= MAX_WORDS
    assert bool(torch.isfinite(field(x)).all())
    assert bool(((x["words"] == 0) == (x["weights"] == 0)).all())


def test_before_training_the_sum_keeps_the_similarities_of_tf_idf() -> None:
    g = np.random.default_rng(0)
    names = [f"w{i}" for i in range(300)]
    documents = [[names[i] for i in g.integers(0, 300, 12)] for _ in range(60)]
    torch.manual_seed(0)
    field = BagOfWordsEncoder.fit(documents, 512)
    torch.nn.init.normal_(field.embedding.weight, std=512**-0.5)
    rows = [field.token_ids(document) for document in documents]
    exact = np.zeros((60, field.embedding.num_embeddings))
    for at, row in enumerate(rows):
        exact[at, list(row)] = list(row.values())
    vectors = field(field.pad(rows)).detach().numpy()
    cosine = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (exact, vectors)]
    np.testing.assert_allclose(cosine[0] @ cosine[0].T, cosine[1] @ cosine[1].T, atol=0.25)
