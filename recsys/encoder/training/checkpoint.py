"""Training half done: everything needed to go on exactly where it stopped, in one file.

In: weights, optimiser, step. Out: a safetensors file, replaced in one move; what it belongs to stands in its header.
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

from recsys.artifacts import atomic as durable
from recsys.errors import ModelFolderError, TemporaryError
from recsys.execution.failpoints import failpoint

Identity = dict[str, Any]
"""What a training is: stage, settings, fingerprint of the data. Fit for JSON."""
Looks = Sequence[float]
"""How good the model was after each pass."""


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A file to go on from, and what a training must be to go on from it."""

    path: Path
    identity: Identity

    def write(self, parts: nn.Module, optimizer: torch.optim.Optimizer | None, step: int, *, looks: Looks = ()) -> None:
        """Write weights (of the model and of the objectives), optimiser, the number of steps done, how good it was."""
        tensors = {f"weights.{name}": held for name, held in parts.state_dict().items()}
        state = optimizer.state_dict()["state"] if optimizer else {}
        for number, held in state.items():
            tensors.update({f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in held.items()})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".part")
        try:
            save_file(
                {name: held.detach().cpu().contiguous().clone() for name, held in tensors.items()},
                new,
                metadata={
                    "identity": json.dumps(self.identity, sort_keys=True),
                    "step": str(step),
                    "looks": json.dumps(list(looks)),
                },
            )
        except SafetensorError as error:
            new.unlink(missing_ok=True)
            raise TemporaryError(
                f"{self.path}: the checkpoint could not be written ({error}); make room on the disk and train --resume"
            ) from error
        durable.fsync_path(new)
        failpoint("encoder.snapshot.rename.before")
        new.replace(self.path)
        failpoint("encoder.snapshot.rename.after")

    def read(self, parts: nn.Module, optimizer: torch.optim.Optimizer | None) -> tuple[int, list[float]]:
        """Take weights and optimiser over; return the number of steps done and the looks, 0 and none without a file.

        Raises:
            ModelFolderError: the file is damaged or belongs to another training.
        """
        if not self.path.exists():
            return 0, []
        header, tensors = self._opened()
        parts.load_state_dict(
            {name.removeprefix("weights."): v for name, v in tensors.items() if name.startswith("weights.")}
        )
        found = int(header["step"]), [float(value) for value in json.loads(header.get("looks", "[]"))]
        if optimizer is None:
            return found
        state: dict[int, dict[str, Tensor]] = {}
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".", 2)
                # the fused AdamW walks through memory, so a moment must lie there as its weight does (channels last)
                like = weights[int(number)]
                held = torch.empty_like(like, dtype=value.dtype).copy_(value) if value.shape == like.shape else value
                state.setdefault(int(number), {})[key] = held
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return found

    def _opened(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        """Header and tensors of the file, which must be of this training."""
        try:
            with safe_open(self.path, framework="pt") as file:
                header: dict[str, str] = file.metadata()
                held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelFolderError(
                f"{self.path}: the checkpoint cannot be read ({error}); train without --resume"
            ) from error
        own = json.loads(header["identity"])
        differing = [
            name for name in sorted(own.keys() | self.identity.keys()) if own.get(name) != self.identity.get(name)
        ]
        if differing:
            raise ModelFolderError(
                f"{self.path}: the checkpoint belongs to another training ({', '.join(differing)} differ); "
                "restore those settings or train without --resume"
            )
        return header, held

    def remove(self) -> None:
        """Forget what was done so far."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".part").unlink(missing_ok=True)
