"""Settings of training: [encoder], [objectives], [training], [ranker].

In: values. Out: frozen, validated sections.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from recsys.config.section import Section

_DEFAULT_PREFIXES: Final = (32, 64)


class EncoderSettings(Section):
    """Architecture and inputs of the product and user encoders."""

    text: str = Field(
        "own",
        min_length=1,
        description="text tower: own = trained from scratch on the catalogue, or the folder or hub name of a "
        "transformers text model",
    )
    image: str = Field(
        "own",
        min_length=1,
        description="image tower: own = small convolutional network, vit = small vision transformer, both from "
        "scratch; a torchvision network (resnet18) or its weights (ResNet18_Weights.DEFAULT); or the folder or hub "
        "name of a transformers vision model",
    )
    tuning: Literal["frozen", "adapters", "tuned"] = Field(
        "frozen",
        description="trainable parameters of pretrained towers: frozen = none, adapters = low-rank matrices (LoRA), "
        "tuned = all",
    )
    adapter_rank: int = Field(8, ge=1, description="rank of the adapters of a pretrained tower")
    tuning_pace: float = Field(
        0.01,
        gt=0,
        le=1,
        description="learning rate of a tuned pretrained tower, as a fraction of the base learning rate",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="number format of pretrained towers; auto = bf16 if the device supports it"
    )
    dim: int = Field(128, ge=8, description="dimension of the product vectors")
    width: int = Field(128, ge=16, description="hidden size of the towers and the fusion")
    heads: int = Field(4, ge=1, description="attention heads; must divide width")
    text_layers: int = Field(1, ge=1, description="transformer layers of the text tower")
    image_layers: int = Field(4, ge=1, description='transformer layers of the image tower "vit"')
    fusion_layers: int = Field(2, ge=1, description="transformer layers of the fusion")
    user_layers: int = Field(2, ge=1, description="transformer layers of the user encoder")
    text_tokens: int = Field(32, ge=4, description="maximum tokens of a product's text")
    vocabulary: int = Field(8000, ge=300, description="size of the byte-level BPE vocabulary trained on the catalogue")
    history: int = Field(30, ge=1, description="latest events of a user read by the user encoder")
    text_columns: list[str] = Field(["title", "description"], description="columns read as text")
    attribute_columns: list[str] | Literal["auto"] = Field(
        "auto",
        description="columns read as attributes; auto = brand, category, price and attributes with few values",
    )
    modality_dropout: float = Field(
        0.3, ge=0, lt=1, description="probability that a modality of a product is dropped in training"
    )
    id_dropout: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="probability that a product's id residual is dropped in training of the user encoder",
    )
    matryoshka: list[int] | Literal["auto"] = Field(
        "auto",
        description="prefix lengths at which a truncated embedding must also work (Matryoshka), ascending; auto = "
        "those of 32 and 64 below dim, [] = none",
    )

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Prefix lengths below dim at which a truncated embedding must also work, ascending."""
        lengths = _DEFAULT_PREFIXES if self.matryoshka == "auto" else self.matryoshka
        return tuple(length for length in lengths if length < self.dim)

    @model_validator(mode="after")
    def _check_prefixes(self) -> EncoderSettings:
        if self.matryoshka != "auto":
            lengths = [0, *self.matryoshka, self.dim]
            if any(b <= a for a, b in zip(lengths, lengths[1:], strict=False)):
                raise ValueError(
                    f"matryoshka ({self.matryoshka}) must ascend from 1 or more to less than dim ({self.dim})"
                )
        return self

    @model_validator(mode="after")
    def _check_heads(self) -> EncoderSettings:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class ObjectiveSettings(Section):
    """Weight of each training objective, 0 = off; and options of some objectives."""

    masked_text: float = Field(0.3, ge=0, description="predict masked words of title and description")
    masked_image: float = Field(0.0, ge=0, description="predict masked parts of the image")
    masked_attributes: float = Field(0.5, ge=0, description="predict masked attributes")
    denoise: float = Field(0.1, ge=0, description="predict the true attributes from corrupted ones")
    image_text: float = Field(1.0, ge=0, description="match a product's text with its image and vice versa")
    contrast: Literal["infonce", "sigmoid"] = Field(
        "infonce",
        description="loss of image_text: infonce = classify among the batch (CLIP), sigmoid = classify each pair "
        "independently (SigLIP)",
    )
    image_words: float = Field(1.0, ge=0, description="predict a product's words from its image alone")
    augmented: float = Field(
        0.0, ge=0, description="match a product with an augmented view: image cropped, words and modalities dropped"
    )
    co_purchase: float = Field(0.3, ge=0, description="match products that a user bought close in time")
    next_item: float = Field(1.0, ge=0, description="predict a user's next purchase")
    labels: float = Field(1.0, ge=0, description="predict the labels passed to train --labels; no effect without them")
    teacher: float = Field(1.0, ge=0, description="imitate the encoder passed to train --distill; no effect without it")
    weighting: Literal["fixed", "learned"] = Field(
        "fixed",
        description="fixed = the weights above; learned = the weights of the product encoder's objectives are initial "
        "values, adapted so that all losses count equally",
    )


class TrainingSettings(Section):
    """The training loop."""

    epochs: int = Field(3, ge=1, description="passes over the products")
    label_epochs: int = Field(3, ge=1, description="passes over the products when train --labels starts from a model")
    user_epochs: int = Field(20, ge=1, description="maximum passes over the users")
    patience: int = Field(
        3,
        ge=0,
        description="passes over the users without improvement on held-out purchases before the learning rate is "
        "reduced; after two reductions, training stops; 0 = neither",
    )
    min_steps: int = Field(100, ge=1, description="minimum number of steps, so that small shops train long enough")
    batch_size: int = Field(256, ge=2, description="products per step")
    user_batch_size: int = Field(256, ge=2, description="users per step")
    negatives: int = Field(
        1024, ge=0, description="negative products for the next purchase, sampled in each step; 0 = all products"
    )
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of AdamW")
    label_learning_rate: float = Field(
        1e-3, gt=0, description="peak learning rate of AdamW when train --labels starts from a model"
    )
    user_learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of AdamW for the user encoder")
    weight_decay: float = Field(0.05, ge=0, description="weight decay of AdamW")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps used for learning rate warmup")
    clip: float = Field(1.0, gt=0, description="maximum gradient norm; larger gradients are clipped")
    chunk: int = Field(
        0,
        ge=0,
        description="products whose activations are in memory at once when training the product encoder, so that "
        "larger batches fit; each step takes about a third longer; 0 = the complete batch",
    )
    compile: bool = Field(False, description="compile the product encoder with torch.compile")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="number format of matrix products; auto = bf16 if the device supports it"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device for training")
    checkpoint_minutes: float = Field(5, gt=0, description="minutes between checkpoints")
    seed: int = Field(0, ge=0, description="seed of all random numbers")


class RankerSettings(Section):
    """Fitting the ranker of candidates on earlier time windows."""

    kind: Literal["auto", "trees", "weights"] = Field(
        "auto",
        description="trees = boosted trees, weights = linear; auto = the blend of both that ranks best on held-out "
        "users if enough users bought one of their candidates, else weights",
    )
    window_fraction: float = Field(
        0.15, gt=0, lt=0.9, description="newest share of the events, held out to fit the ranker"
    )
    windows: int = Field(
        2, ge=1, description="windows the held-out share is split into, of whole days if there are several"
    )
    max_users: int = Field(20_000, ge=100, description="maximum users to fit the ranker on")
    candidates: int = Field(100, ge=10, description="candidates per source and user")
    negatives: int = Field(200, ge=10, description="negative candidates sampled per user to fit on")
    least_users: int = Field(500, ge=50, description="minimum users with a bought candidate to fit trees")
    trees: int = Field(500, ge=1, description="maximum number of trees; early stopping on held-out users")
    learning_rate: float = Field(0.05, gt=0, le=1, description="learning rate of the boosted trees")
