"""Pretrained text towers: any encoder of the transformers library, pooled as in sentence-transformers.

In: a folder or hub name, or the state of a saved tower. Out: a tower and its tokenizer.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

import torch
import torch.nn.functional as F
import transformers
from tokenizers import Tokenizer
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.encoder.backbones import hub, lora
from recsys.encoder.backbones.inference_copy import InferenceCopy
from recsys.encoder.backbones.text import MASK, N_SPECIAL_TOKENS, N_SUMMARY_TOKENS, PAD
from recsys.errors import ConfigError

_POOLINGS: Final = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
"""Pooling modes of sentence-transformers that are supported, and their names here."""


class PretrainedText(nn.Module):
    """A transformers model; the pooled state of a text is its sentence embedding before normalisation."""

    token_offset = N_SPECIAL_TOKENS

    def __init__(self, backbone: nn.Module, state: dict[str, Any], settings: EncoderSettings) -> None:
        super().__init__()
        self.is_trainable = settings.tuning != "frozen"
        self.max_tokens: int | None = state["longest"]
        self._state = state
        self._inference_copy = InferenceCopy(settings.precision)
        embedding: nn.Embedding = backbone.get_input_embeddings()  # type: ignore[operator]
        embedding_size, hidden_size = embedding.embedding_dim, int(state["config"]["hidden_size"])
        self.backbone = backbone
        lora.configure_trainable(
            backbone,
            settings.tuning,
            rank=settings.adapter_rank,
            learning_rate_scale=settings.tuning_pace,
            setting="[encoder] text",
        )
        self.concealed = nn.Parameter(embedding.weight.detach()[state["mask"]].clone(), requires_grad=self.is_trainable)
        self.summarise = nn.Linear(hidden_size, N_SUMMARY_TOKENS * settings.width)
        self.inward = nn.Linear(hidden_size, settings.width)
        self.outward = nn.Linear(embedding_size, settings.width)
        self.norm, self.norm_inward, self.norm_outward = (nn.LayerNorm(settings.width) for _ in range(3))
        nn.init.constant_(self.norm_outward.weight, 0.5)
        special_ids = [state["pad"], state["mask"], state["next"]]
        self.register_buffer(
            "numbers", torch.tensor([*special_ids, *range(embedding.num_embeddings)]), persistent=False
        )

    @staticmethod
    def from_pretrained(name: str, settings: EncoderSettings) -> tuple[PretrainedText, Tokenizer]:
        """Load the model of a folder or hub name, with its tokenizer.

        Raises:
            ConfigError: there is no such model, or it is not a text encoder.
            ModelFolderError: weights are missing or of another shape.
        """
        source = hub.PretrainedSource(name, "[encoder] text")
        config = source.load_config()
        if getattr(config, "is_encoder_decoder", False) or hasattr(config, "vision_config"):
            raise ConfigError(
                f"{source.setting}: '{config.model_type}' is not a plain text encoder; set a model like BERT"
            )
        if not isinstance(getattr(config, "hidden_size", None), int):
            raise ConfigError(f"{source.setting}: '{config.model_type}' does not read text; set a model like BERT")
        tokenizer, special = _load_tokenizer(source)
        backbone = source.load_model(config)
        embedding = getattr(backbone, "get_input_embeddings", lambda: None)()
        if not isinstance(embedding, nn.Embedding):
            raise ConfigError(f"{source.setting}: '{config.model_type}' does not read tokens; set a model like BERT")
        if tokenizer.get_vocab_size() > embedding.num_embeddings:
            raise ConfigError(
                f"{source.setting}: the tokenizer has {tokenizer.get_vocab_size()} tokens, the model only "
                f"{embedding.num_embeddings}; the files belong to different models"
            )
        state = {
            "kind": "transformers",
            "config": {**hub.config_to_dict(config), "hidden_size": config.hidden_size},
            "pooling": _read_pooling_mode(source),
            "longest": _max_tokens(backbone, special["most"]) - len(special["prefix"]) - len(special["suffix"]),
            **{key: special[key] for key in ("prefix", "suffix", "pad", "mask", "next")},
        }
        return PretrainedText(backbone, state, settings), tokenizer

    @staticmethod
    def from_state(state: dict[str, Any], settings: EncoderSettings) -> PretrainedText:
        """Rebuild the tower from its `state()`; its weights are not set yet."""
        return PretrainedText(hub.build_from_config(state["config"]), state, settings)

    def train(self, mode: bool = True) -> PretrainedText:  # noqa: FBT001, FBT002 - torch's own signature
        """Set the mode; the backbone stays in evaluation mode: its dropout uses the global generator."""
        super().train(mode)
        self.backbone.eval()
        return self

    def state(self) -> dict[str, Any]:
        """Return the architecture without the weights as a JSON-compatible dict."""
        return self._state

    def pool(self, tokens: Tensor) -> Tensor:
        """Compute the pooled state of each text: (b, L) int64 -> (b, h)."""
        return self._pool_states(*self._run_backbone(tokens))

    def _pool_states(self, states: Tensor, real: Tensor) -> Tensor:
        if self._state["pooling"] == "cls":
            return states[:, 0]
        if self._state["pooling"] == "last":
            return states[torch.arange(len(states), device=states.device), real.sum(1) - 1]
        return (states * real[..., None]).sum(1) / real.sum(1, keepdim=True)

    def summary_tokens(self, pooled: Tensor) -> Tensor:
        """Compute the summary tokens from pooled states: (b, h) -> (b, 2, w)."""
        x = F.normalize(pooled, dim=1) * pooled.shape[1] ** 0.5
        summary: Tensor = self.norm(self.summarise(x).unflatten(1, (N_SUMMARY_TOKENS, -1)))
        return summary

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """Compute the summary tokens and the state of every token: (b, L) int64 -> (b, 2 + L, w)."""
        states, real = self._run_backbone(tokens)
        pooled = self._pool_states(states, real)
        n_prefix = len(self._state["prefix"])
        token_states = self.norm_inward(self.inward(states[:, n_prefix : n_prefix + tokens.shape[1]]))
        return torch.cat([self.summary_tokens(pooled), token_states], 1)

    def token_vectors(self) -> Tensor:
        """Project the input embedding to width w: (v, w)."""
        embedding: nn.Embedding = self.backbone.get_input_embeddings()  # type: ignore[operator]
        vectors = self.norm_outward(self.outward(embedding.weight))
        return torch.cat([vectors[self.numbers[:N_SPECIAL_TOKENS]], vectors])  # type: ignore[index]

    def _run_backbone(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """States of all tokens with prefix and suffix, and the mask of real ones: (b, L', h), (b, L') bool."""
        prefix, suffix = self._state["prefix"], self._state["suffix"]
        b, length = tokens.shape
        numbers: Tensor = self.numbers  # type: ignore[assignment]
        ends = len(prefix) + (tokens != PAD).sum(1, keepdim=True)
        ids = numbers[F.pad(tokens, (len(prefix), len(suffix)), value=PAD)]
        ids[:, : len(prefix)] = torch.tensor(prefix, dtype=ids.dtype, device=ids.device)
        for offset, token_id in enumerate(suffix):
            ids.scatter_(1, ends + offset, token_id)
        positions = torch.arange(ids.shape[1], device=ids.device)
        real = positions < (ends + len(suffix)).clamp(min=1)
        trains = self.is_trainable and torch.is_grad_enabled()
        backbone: Any = self.backbone if trains else self._inference_copy.get(self.backbone, tokens.device)
        x = backbone.get_input_embeddings()(ids)
        is_masked = F.pad(tokens == MASK, (len(prefix), len(suffix)), value=False)
        if bool(is_masked.any()):
            x = torch.where(is_masked[..., None], self.concealed.to(x.dtype), x)
        with nullcontext() if trains else self._inference_copy.autocast(tokens.device):
            states = backbone(inputs_embeds=x, attention_mask=real.long()).last_hidden_state
        out: Tensor = states.float()
        return out, real


def _load_tokenizer(source: hub.PretrainedSource) -> tuple[Tokenizer, dict[str, Any]]:
    """Load a model's tokenizer and its special tokens; `most` = maximum number of tokens of the model."""
    try:
        with hub.silence_transformers():
            fast_tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source.name, **source.load_options)
    except hub.LOAD_ERRORS as error:
        raise source.load_error(error) from error
    if not getattr(fast_tokenizer, "is_fast", False):
        raise ConfigError(f"{source.setting}: the model has no tokenizer.json; convert its tokenizer to a fast one")
    tokenizer = Tokenizer.from_str(fast_tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    plain, full = fast_tokenizer("a", add_special_tokens=False)["input_ids"], fast_tokenizer("a")["input_ids"]
    start = next((i for i in range(len(full)) if full[i : i + len(plain)] == plain), 0)
    pad = fast_tokenizer.pad_token_id if fast_tokenizer.pad_token_id is not None else fast_tokenizer.eos_token_id or 0
    separator = next((i for i in (fast_tokenizer.sep_token_id, fast_tokenizer.eos_token_id) if i is not None), None)
    if separator is None:
        separator = (tokenizer.encode(".", add_special_tokens=False).ids or [pad])[-1]
    special = {
        "prefix": full[:start],
        "suffix": full[start + len(plain) :],
        "pad": pad,
        "mask": fast_tokenizer.mask_token_id if fast_tokenizer.mask_token_id is not None else pad,
        "next": separator,
        "most": int(min(fast_tokenizer.model_max_length, 2**20)),
    }
    return tokenizer, special


def _max_tokens(backbone: nn.Module, limit: int) -> int:
    """Number of positions of the model, at most `limit`; some count from the padding index."""
    n_positions = getattr(backbone.config, "max_position_embeddings", None)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Embedding) and "position_embeddings" in name and module.padding_idx is not None:
            n_positions = module.num_embeddings - module.padding_idx - 1
    return min(limit, n_positions) if isinstance(n_positions, int) and n_positions > 0 else limit


def _read_pooling_mode(source: hub.PretrainedSource) -> str:
    """Read how a sentence-transformers model pools its states; mean if it is not configured.

    Raises:
        ConfigError: the pooling mode is not supported.
    """
    pooling = source.load_json("1_Pooling/config.json")
    modes = [key.removeprefix("pooling_mode_") for key, value in pooling.items() if value is True and "_mode_" in key]
    if isinstance(pooling.get("pooling_mode"), str):
        modes = [{"mean": "mean_tokens", "cls": "cls_token"}.get(pooling["pooling_mode"], pooling["pooling_mode"])]
    if not modes:
        return "mean"
    if len(modes) > 1 or modes[0] not in _POOLINGS:
        raise ConfigError(
            f"{source.setting}: pools its tokens by {' and '.join(modes)}; supported are {', '.join(_POOLINGS)}"
        )
    return _POOLINGS[modes[0]]
