"""The sections about learning: encoders, objectives, the training loop, the ranker.

In: values. Out: frozen, checked sections.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from recsys.config.section import Section

_PREFIXES: Final = (32, 64)


class EncoderSettings(Section):
    """Size and inputs of the product and user encoders."""

    text: str = Field(
        "own",
        min_length=1,
        description="text tower: own = trained from scratch on the catalogue, or folder or hub name of a transformers "
        "text model",
    )
    image: str = Field(
        "own",
        min_length=1,
        description="picture tower: own = small convolutional network, vit = small transformer, both from scratch; a "
        "network of torchvision (resnet18) or its weights (ResNet18_Weights.DEFAULT); or folder or hub name of a "
        "transformers vision model",
    )
    tuning: Literal["frozen", "adapters", "tuned"] = Field(
        "frozen",
        description="what learns in pretrained towers: frozen = nothing, adapters = small matrices beside each layer, "
        "tuned = everything",
    )
    adapter_rank: int = Field(8, ge=1, description="width of the adapters of a pretrained tower")
    tuning_pace: float = Field(
        0.01, gt=0, le=1, description="learning rate of a tuned pretrained tower as a share of that of the rest"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="number format pretrained towers encode in; auto = bf16 where the processor has it"
    )
    dim: int = Field(128, ge=8, description="length of a product vector")
    width: int = Field(128, ge=16, description="width of the towers and of the fusion")
    heads: int = Field(4, ge=1, description="attention heads; divides width")
    text_layers: int = Field(1, ge=1, description="transformer layers of the text tower")
    image_layers: int = Field(4, ge=1, description='transformer layers of the picture tower "vit"')
    fusion_layers: int = Field(2, ge=1, description="transformer layers of the fusion")
    user_layers: int = Field(2, ge=1, description="transformer layers of the user encoder")
    text_tokens: int = Field(32, ge=4, description="tokens read of each product's text")
    vocabulary: int = Field(8000, ge=300, description="size of the byte-level BPE vocabulary trained on the catalogue")
    history: int = Field(30, ge=1, description="events of a user the user encoder looks back on")
    text_columns: list[str] = Field(["title", "description"], description="columns read as text")
    attribute_columns: list[str] | Literal["auto"] = Field(
        "auto",
        description="columns read as attributes; auto = brand, category, price, attributes with few values",
    )
    modality_dropout: float = Field(
        0.3, ge=0, lt=1, description="chance that a modality of a product is hidden in training"
    )
    id_dropout: float = Field(
        0.3, ge=0, lt=1, description="chance that a product's id residual is hidden in training of the user encoder"
    )
    matryoshka: list[int] | Literal["auto"] = Field(
        "auto",
        description="how many of a vector's first numbers must do alone too, ascending; auto = 32 and 64 where dim is "
        "longer, [] = none",
    )

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Lengths shorter than dim at which a vector must do too, ascending."""
        lengths = _PREFIXES if self.matryoshka == "auto" else self.matryoshka
        return tuple(length for length in lengths if length < self.dim)

    @model_validator(mode="after")
    def _prefixes_ascend_below_dim(self) -> EncoderSettings:
        if self.matryoshka != "auto":
            lengths = [0, *self.matryoshka, self.dim]
            if any(b <= a for a, b in zip(lengths, lengths[1:], strict=False)):
                raise ValueError(
                    f"matryoshka ({self.matryoshka}) must ascend from 1 or more to less than dim ({self.dim})"
                )
        return self

    @model_validator(mode="after")
    def _heads_divide_width(self) -> EncoderSettings:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class ObjectiveSettings(Section):
    """Weight of each training objective, 0 leaves it out; and how some of them are computed."""

    masked_text: float = Field(0.3, ge=0, description="guess hidden words of title and description")
    masked_image: float = Field(0.0, ge=0, description="guess hidden parts of the picture")
    masked_attributes: float = Field(0.5, ge=0, description="guess hidden attributes")
    denoise: float = Field(0.1, ge=0, description="guess the true attributes from spoilt ones")
    image_text: float = Field(1.0, ge=0, description="find a product's text by its picture and back")
    contrast: Literal["infonce", "sigmoid"] = Field(
        "infonce",
        description="how image_text compares: infonce = find each product among the batch (CLIP), sigmoid = judge each "
        "pair by itself (SigLIP)",
    )
    image_words: float = Field(1.0, ge=0, description="name a product's words by its picture alone")
    augmented: float = Field(
        0.0, ge=0, description="find a product by a second view of it: picture cut anew, words and modalities left out"
    )
    co_purchase: float = Field(0.3, ge=0, description="find what the same user bought close in time")
    next_item: float = Field(1.0, ge=0, description="guess a user's next purchase")
    labels: float = Field(1.0, ge=0, description="guess the labels given to train --labels; nothing without them")
    teacher: float = Field(1.0, ge=0, description="be like the encoder given to train --distill; nothing without it")
    weighting: Literal["fixed", "learned"] = Field(
        "fixed",
        description="fixed = the weights above; learned = those of the product encoder's objectives are only a start, "
        "and each comes to weigh what makes its loss count as much as any other's",
    )


class TrainingSettings(Section):
    """The training loop."""

    epochs: int = Field(3, ge=1, description="passes over the products")
    label_epochs: int = Field(3, ge=1, description="passes over the products when train --labels goes on from a model")
    user_epochs: int = Field(20, ge=1, description="passes over the users at most")
    patience: int = Field(
        3,
        ge=0,
        description="passes over the users without a gain on purchases held back before the learning rate falls, and "
        "after two falls before the training ends; 0 = neither",
    )
    min_steps: int = Field(100, ge=1, description="steps at least, so that a small shop learns too")
    batch_size: int = Field(256, ge=2, description="products in a step")
    user_batch_size: int = Field(256, ge=2, description="users in a step")
    negatives: int = Field(
        1024, ge=0, description="wrong products a next purchase is told from, drawn in each step; 0 = all"
    )
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of AdamW")
    label_learning_rate: float = Field(
        1e-3, gt=0, description="peak learning rate of AdamW when train --labels goes on from a model"
    )
    user_learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of AdamW for the user encoder")
    weight_decay: float = Field(0.05, ge=0, description="weight decay of AdamW")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps spent warming up")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    chunk: int = Field(
        0,
        ge=0,
        description="products whose activations are held at once in training the product encoder, so that larger "
        "batches fit into memory; each step takes about a third longer; 0 = the whole batch",
    )
    compile: bool = Field(False, description="make kernels for the product encoder with torch.compile")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="number format of the products; auto = bf16 where the processor has it"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")
    checkpoint_minutes: float = Field(5, gt=0, description="minutes between checkpoints")
    seed: int = Field(0, ge=0, description="the one seed every random choice comes from")


class RankerSettings(Section):
    """Fitting the ranker of the candidates on earlier windows."""

    kind: Literal["auto", "trees", "weights"] = Field(
        "auto",
        description="trees = boosted trees, weights = one weight a feature; auto = where enough users bought one of "
        "their candidates, trees and as much of the weights as ranks best on users neither was fitted on",
    )
    window_fraction: float = Field(
        0.15, gt=0, lt=0.9, description="newest share of the events held out to fit the ranker"
    )
    windows: int = Field(
        2, ge=1, description="parts the held-out share is cut into, whole days where there are several"
    )
    max_users: int = Field(20_000, ge=100, description="users the ranker is fitted on at most")
    candidates: int = Field(100, ge=10, description="candidates a source proposes per user")
    negatives: int = Field(200, ge=10, description="candidates of a user that were not bought, drawn to fit on")
    least_users: int = Field(500, ge=50, description="users with a bought candidate that trees need at least")
    trees: int = Field(500, ge=1, description="trees at most; fewer when users held out gain no more")
    learning_rate: float = Field(0.05, gt=0, le=1, description="of the boosting of trees")
