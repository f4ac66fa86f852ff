"""Pretrained text towers: any encoder of the transformers library, pooled as sentence-transformers does.

In: a folder or hub name, or the state of a saved one. Out: a tower and its tokenizer.
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
from recsys.encoder.backbones import hub as pretrained
from recsys.encoder.backbones import lora as adapters
from recsys.encoder.backbones.inference_copy import InferenceCopy
from recsys.encoder.backbones.text import MASK, PAD, SPECIAL, SUMMARY
from recsys.errors import ConfigError

_POOLINGS: Final = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}


class PretrainedText(nn.Module):
    """A transformers model; the gist of a text is its pooled state, which sentence-transformers brings to length 1."""

    first = SPECIAL

    def __init__(self, backbone: nn.Module, state: dict[str, Any], settings: EncoderSettings) -> None:
        super().__init__()
        self.learns = settings.tuning != "frozen"
        self.longest: int | None = state["longest"]
        self._state = state
        self._swift = InferenceCopy(settings.precision)
        inner: nn.Embedding = backbone.get_input_embeddings()  # type: ignore[operator]
        depth, wide = inner.embedding_dim, int(state["config"]["hidden_size"])
        self.backbone = backbone
        adapters.configure_trainable(
            backbone, settings.tuning, rank=settings.adapter_rank, pace=settings.tuning_pace, setting="[encoder] text"
        )
        self.concealed = nn.Parameter(inner.weight.detach()[state["mask"]].clone(), requires_grad=self.learns)
        self.summarise = nn.Linear(wide, SUMMARY * settings.width)
        self.inward = nn.Linear(wide, settings.width)
        self.outward = nn.Linear(depth, settings.width)
        self.norm, self.norm_inward, self.norm_outward = (nn.LayerNorm(settings.width) for _ in range(3))
        nn.init.constant_(self.norm_outward.weight, 0.5)
        own = [state["pad"], state["mask"], state["next"]]
        self.register_buffer("numbers", torch.tensor([*own, *range(inner.num_embeddings)]), persistent=False)

    @staticmethod
    def of(name: str, settings: EncoderSettings) -> tuple[PretrainedText, Tokenizer]:
        """The model of a folder or hub name, with its tokenizer.

        Raises:
            ConfigError: there is none, or it is none that turns a text into states.
            ModelFolderError: weights are missing or of another shape.
        """
        source = pretrained.PretrainedSource(name, "[encoder] text")
        config = source.config()
        if getattr(config, "is_encoder_decoder", False) or hasattr(config, "vision_config"):
            raise ConfigError(f"{source.setting}: '{config.model_type}' is no plain text encoder; name one like BERT")
        if not isinstance(getattr(config, "hidden_size", None), int):
            raise ConfigError(f"{source.setting}: '{config.model_type}' reads no text; name a model like BERT")
        tokenizer, special = _tokenizer(source)
        backbone = source.model(config)
        inner = getattr(backbone, "get_input_embeddings", lambda: None)()
        if not isinstance(inner, nn.Embedding):
            raise ConfigError(f"{source.setting}: '{config.model_type}' reads no tokens; name a model like BERT")
        if tokenizer.get_vocab_size() > inner.num_embeddings:
            raise ConfigError(
                f"{source.setting}: the tokenizer knows {tokenizer.get_vocab_size()} tokens, the model only "
                f"{inner.num_embeddings}; the files belong to different models"
            )
        state = {
            "kind": "transformers",
            "config": {**pretrained.state_of(config), "hidden_size": config.hidden_size},
            "pooling": _pooling(source),
            "longest": _longest(backbone, special["most"]) - len(special["prefix"]) - len(special["suffix"]),
            **{key: special[key] for key in ("prefix", "suffix", "pad", "mask", "next")},
        }
        return PretrainedText(backbone, state, settings), tokenizer

    @staticmethod
    def of_state(state: dict[str, Any], settings: EncoderSettings) -> PretrainedText:
        """The tower as `state()` gave it; its weights are not set yet."""
        return PretrainedText(pretrained.build_from_config(state["config"]), state, settings)

    def train(self, mode: bool = True) -> PretrainedText:  # noqa: FBT001, FBT002 - torch's own signature
        """As for every module, but the backbone stays as it is outside training: its dropout is not ours to draw."""
        super().train(mode)
        self.backbone.eval()
        return self

    def state(self) -> dict[str, Any]:
        return self._state

    def gist(self, tokens: Tensor) -> Tensor:
        return self._pooled(*self._read(tokens))

    def _pooled(self, states: Tensor, real: Tensor) -> Tensor:
        if self._state["pooling"] == "cls":
            return states[:, 0]
        if self._state["pooling"] == "last":
            return states[torch.arange(len(states), device=states.device), real.sum(1) - 1]
        return (states * real[..., None]).sum(1) / real.sum(1, keepdim=True)

    def summarised(self, gist: Tensor) -> Tensor:
        x = F.normalize(gist, dim=1) * gist.shape[1] ** 0.5
        summary: Tensor = self.norm(self.summarise(x).unflatten(1, (SUMMARY, -1)))
        return summary

    def states(self, tokens: Tensor) -> Tensor:
        states, real = self._read(tokens)
        gist = self._pooled(states, real)
        before = len(self._state["prefix"])
        inner = self.norm_inward(self.inward(states[:, before : before + tokens.shape[1]]))
        return torch.cat([self.summarised(gist), inner], 1)

    def table(self) -> Tensor:
        inner: nn.Embedding = self.backbone.get_input_embeddings()  # type: ignore[operator]
        every = self.norm_outward(self.outward(inner.weight))
        return torch.cat([every[self.numbers[:SPECIAL]], every])  # type: ignore[index]

    def _read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """States of all tokens with those in front and behind, and which are real: (b, L', h), (b, L') bool."""
        before, behind = self._state["prefix"], self._state["suffix"]
        b, length = tokens.shape
        numbers: Tensor = self.numbers  # type: ignore[assignment]
        ends = len(before) + (tokens != PAD).sum(1, keepdim=True)
        ids = numbers[F.pad(tokens, (len(before), len(behind)), value=PAD)]
        ids[:, : len(before)] = torch.tensor(before, dtype=ids.dtype, device=ids.device)
        for at, number in enumerate(behind):
            ids.scatter_(1, ends + at, number)
        places = torch.arange(ids.shape[1], device=ids.device)
        real = places < (ends + len(behind)).clamp(min=1)
        learns = self.learns and torch.is_grad_enabled()
        backbone: Any = self.backbone if learns else self._swift.of(self.backbone, tokens.device)
        x = backbone.get_input_embeddings()(ids)
        hidden = F.pad(tokens == MASK, (len(before), len(behind)), value=False)
        if bool(hidden.any()):
            x = torch.where(hidden[..., None], self.concealed.to(x.dtype), x)
        with nullcontext() if learns else self._swift.autocast(tokens.device):
            states = backbone(inputs_embeds=x, attention_mask=real.long()).last_hidden_state
        out: Tensor = states.float()
        return out, real


def _tokenizer(source: pretrained.PretrainedSource) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer of a model and its special tokens, `most` = tokens it says the model reads."""
    try:
        with pretrained.silence_transformers():
            whole: Any = transformers.AutoTokenizer.from_pretrained(source.name, **source.how)
    except pretrained.TROUBLE as error:
        raise source.trouble(error) from error
    if not getattr(whole, "is_fast", False):
        raise ConfigError(f"{source.setting}: has no tokenizer.json; convert its tokenizer to a fast one")
    held = Tokenizer.from_str(whole.backend_tokenizer.to_str())
    held.no_truncation()
    held.no_padding()
    bare, full = whole("a", add_special_tokens=False)["input_ids"], whole("a")["input_ids"]
    at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
    pad = whole.pad_token_id if whole.pad_token_id is not None else whole.eos_token_id or 0
    between = next((one for one in (whole.sep_token_id, whole.eos_token_id) if one is not None), None)
    if between is None:
        between = (held.encode(".", add_special_tokens=False).ids or [pad])[-1]
    special = {
        "prefix": full[:at],
        "suffix": full[at + len(bare) :],
        "pad": pad,
        "mask": whole.mask_token_id if whole.mask_token_id is not None else pad,
        "next": between,
        "most": int(min(whole.model_max_length, 2**20)),
    }
    return held, special


def _longest(backbone: nn.Module, most: int) -> int:
    """Tokens the model has places for; some start counting behind their filler token."""
    held = getattr(backbone.config, "max_position_embeddings", None)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Embedding) and "position_embeddings" in name and module.padding_idx is not None:
            held = module.num_embeddings - module.padding_idx - 1
    return min(most, held) if isinstance(held, int) and held > 0 else most


def _pooling(source: pretrained.PretrainedSource) -> str:
    """How a sentence-transformers model pools its states; the mean where nothing is said.

    Raises:
        ConfigError: in a way that is not known here.
    """
    said = source.file("1_Pooling/config.json")
    modes = [key.removeprefix("pooling_mode_") for key, value in said.items() if value is True and "_mode_" in key]
    if isinstance(said.get("pooling_mode"), str):
        modes = [{"mean": "mean_tokens", "cls": "cls_token"}.get(said["pooling_mode"], said["pooling_mode"])]
    if not modes:
        return "mean"
    if len(modes) > 1 or modes[0] not in _POOLINGS:
        raise ConfigError(
            f"{source.setting}: pools its tokens by {' and '.join(modes)}; there are {', '.join(_POOLINGS)}"
        )
    return _POOLINGS[modes[0]]
