"""One of the two processes of test_distributed.py: a step of every objective, and a training stopped and resumed.

In: a folder; the environment torchrun sets. Out: `<rank>.safetensors` and `<rank>.json` in it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.batches.products import ProductBatch, ProductBatchLoader
from recsys.encoder.objectives.co_purchase import CoPurchaseLoss
from recsys.encoder.objectives.image_text import ImageTextLoss
from recsys.encoder.objectives.masked_attributes import MaskedAttributeLoss
from recsys.encoder.objectives.masked_text import MaskedTextLoss
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.training import distributed
from recsys.encoder.training.chunking import chunked_forward
from recsys.encoder.training.train import train_products
from recsys.errors import DataContractError, InterruptedRunError
from tests.encoder import shops


def step(*, chunk: int = 0) -> dict[str, Tensor]:
    """Losses, mean gradients and the running numbers of batch normalisation after one step from fixed weights."""
    torch.manual_seed(0)
    model = ProductEncoder.fit(shops.catalogue(), shops.ENCODER).train()
    objectives = nn.ModuleList([MaskedTextLoss(16), MaskedAttributeLoss(), ImageTextLoss(), CoPurchaseLoss()])
    batches = ProductBatchLoader(
        shops.catalogue(), model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=26, seed=0
    )
    g = torch.Generator().manual_seed(5)
    with chunked_forward(model, chunk_size=chunk, compiled=False):
        batch = batches.get_batch(1)
        losses = {each.name: each(model, batch, g) for each in objectives}
        torch.stack(list(losses.values())).sum().backward()
    parts = nn.ModuleDict({"model": model, "objectives": objectives})
    distributed.all_reduce_gradients(parts.parameters())
    return {
        **{f"loss.{name}": loss.detach() for name, loss in losses.items()},
        **{f"gradient.{name}": p.grad.contiguous() for name, p in parts.named_parameters() if p.grad is not None},
        **{f"buffer.{name}": held.clone() for name, held in model.named_buffers()},
    }


def train(folder: Path, *, resume: bool) -> dict[str, float]:
    model = train_products(
        shops.catalogue(),
        shops.interactions(),
        encoder=shops.ENCODER,
        objectives=shops.OBJECTIVES,
        training=shops.TRAINING.model_copy(update={"epochs": 1, "min_steps": 4, "batch_size": 24}),
        folder=folder,
        resume=resume,
        progress=False,
    )
    return {**model.metrics, "version": model.version}


def main(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    said: dict[str, object] = {}
    with distributed.process_group("cpu"):
        assert (distributed.world_size(), distributed.rank()) == (2, rank)
        said["told"] = distributed.broadcast(7 if rank == 0 else 3)
        x = torch.arange(2.0 + rank, requires_grad=True)
        every = distributed.all_gather(x, [2, 3])
        (every * torch.arange(5.0)).sum().backward()
        said["gathered"], said["back"] = every.tolist(), x.grad.tolist()
        try:
            distributed.broadcast_parameters(nn.Linear(1, 1), {"data": rank})
        except DataContractError as error:
            said["refused"] = str(error)
        tensors = {f"whole.{name}": value for name, value in step().items()}
        tensors |= {f"chunk.{name}": value for name, value in step(chunk=5).items()}
        if rank == 1:  # the one process that is sent a signal
            to, used = ProductBatch.to, []

            def put(self: ProductBatch, device: torch.device) -> ProductBatch:
                used.append(1)
                if len(used) == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                return to(self, device)

            ProductBatch.to = put
        try:
            train(folder, resume=False)
        except InterruptedRunError as error:
            said["stopped"], said["code"] = str(error), error.exit_code
        said["metrics"] = train(folder, resume=True)
    save_file(tensors, folder / f"{rank}.safetensors")
    (folder / f"{rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
