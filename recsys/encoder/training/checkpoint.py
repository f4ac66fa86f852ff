"""Save and load an interrupted training as one file, so that it resumes exactly where it stopped.

In: weights, optimizer, step, validation scores. Out: a safetensors file, replaced atomically; its header names the
training it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from recsys.artifacts.atomic import fsync_path
from recsys.errors import ModelFolderError, TemporaryError
from recsys.execution.failpoints import failpoint

TrainingIdentity = dict[str, Any]
"""Inputs that determine a training: stage, settings, fingerprint of the data. JSON-compatible."""
ValidationScores = Sequence[float]
"""Validation score after each pass."""


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A checkpoint file, and the identity a training must have to resume from it."""

    path: Path
    identity: TrainingIdentity

    def write(
        self, modules: nn.Module, optimizer: torch.optim.Optimizer | None, step: int, *, scores: ValidationScores = ()
    ) -> None:
        """Write weights of model and objectives, optimizer, number of finished steps, and scores.

        Raises:
            TemporaryError: the file cannot be written, for example because the disk is full.
        """
        tensors = {f"weights.{name}": weight for name, weight in modules.state_dict().items()}
        optimizer_state = optimizer.state_dict()["state"] if optimizer else {}
        for number, moments in optimizer_state.items():
            tensors.update({f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part_path = self.path.with_suffix(".part")
        try:
            save_file(
                {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
                part_path,
                metadata={
                    "identity": json.dumps(self.identity, sort_keys=True),
                    "step": str(step),
                    "looks": json.dumps(list(scores)),
                },
            )
        except SafetensorError as error:
            part_path.unlink(missing_ok=True)
            raise TemporaryError(
                f"{self.path}: the checkpoint could not be written ({error}); free disk space and train --resume"
            ) from error
        fsync_path(part_path)
        failpoint("encoder.snapshot.rename.before")
        part_path.replace(self.path)
        failpoint("encoder.snapshot.rename.after")

    def read(self, modules: nn.Module, optimizer: torch.optim.Optimizer | None) -> tuple[int, list[float]]:
        """Load weights and optimizer; return the finished steps and the scores, (0, []) without a file.

        Raises:
            ModelFolderError: the file is damaged or belongs to another training.
        """
        if not self.path.exists():
            return 0, []
        header, tensors = self._load()
        modules.load_state_dict(
            {name.removeprefix("weights."): v for name, v in tensors.items() if name.startswith("weights.")}
        )
        progress = int(header["step"]), [float(value) for value in json.loads(header.get("looks", "[]"))]
        if optimizer is None:
            return progress
        state: dict[int, dict[str, Tensor]] = {}
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".", 2)
                # fused AdamW walks through memory, so a moment needs the memory layout of its weight (channels last)
                weight = weights[int(number)]
                moment = (
                    torch.empty_like(weight, dtype=value.dtype).copy_(value) if value.shape == weight.shape else value
                )
                state.setdefault(int(number), {})[key] = moment
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return progress

    def _load(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        """Return header and tensors of the file, after checking that it belongs to this training."""
        try:
            with safe_open(self.path, framework="pt") as file:
                header: dict[str, str] = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelFolderError(
                f"{self.path}: the checkpoint cannot be read ({error}); train without --resume"
            ) from error
        saved_identity = json.loads(header["identity"])
        differing = [
            name
            for name in sorted(saved_identity.keys() | self.identity.keys())
            if saved_identity.get(name) != self.identity.get(name)
        ]
        if differing:
            raise ModelFolderError(
                f"{self.path}: the checkpoint belongs to another training ({', '.join(differing)} differ); "
                "restore those settings or train without --resume"
            )
        return header, tensors

    def remove(self) -> None:
        """Delete the checkpoint and any unfinished write of it."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".part").unlink(missing_ok=True)
