import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.encoder.modalities import text
from recsys.encoder.modalities.text import TextEncoder, train_tokenizer
from tests.encoder.shops import ENCODER

TEXTS = ["black boots", "black dress", "黑色靴子", "黑色连衣裙", "boots of black leather"] * 4


@pytest.fixture(scope="module")
def field() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder.fit(TEXTS, ["title", "description"], ENCODER).eval()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=60))
def test_any_text_of_any_script_has_tokens_and_none_is_lost(field: TextEncoder, said: str) -> None:
    ids = field.token_ids([said])[0]
    normal = field.tokenizer.normalizer.normalize_str(said)
    assert field.tokenizer.decode(ids).strip() == normal.strip()
    assert not {text.PAD, text.MASK, text.NEXT} & set(ids)


def test_the_same_texts_give_the_same_vocabulary() -> None:
    assert train_tokenizer(TEXTS, 400).to_str() == train_tokenizer(TEXTS, 400).to_str()


def test_frequent_chinese_words_become_tokens(field: TextEncoder) -> None:
    assert len(field.token_ids(["黑色"])[0]) <= 2 < len(field.token_ids(["咖啡"])[0])


def test_columns_are_read_in_order_with_a_mark_between(field: TextEncoder) -> None:
    frame = pl.DataFrame({"description": ["dress", None, None], "title": ["boots", "boots", None]})
    tokens = field.read(frame)["tokens"].numpy()
    boots, dress = (field.token_ids([word])[0] for word in ("boots", "dress"))
    assert [t for t in tokens[0] if t][: len(boots) + 1 + len(dress)] == [*boots, text.NEXT, *dress]
    assert text.NEXT not in tokens[1]
    assert field.present({"tokens": torch.from_numpy(tokens)}).tolist() == [True, True, False]


def test_long_texts_are_cut_and_short_ones_do_not_see_the_filling(field: TextEncoder) -> None:
    rows = field.token_ids(["black", "boots " * 500])
    assert field.pad(rows)["tokens"].shape == (2, ENCODER.text_tokens)
    with torch.inference_mode():
        alone = field(field.pad(rows[:1])).x
        beside = field(field.pad(rows)).x[:1]
    np.testing.assert_allclose(alone, beside, atol=1e-5)
