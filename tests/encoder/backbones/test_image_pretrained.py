import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torchvision import models

from recsys.encoder.backbones.image_pretrained import PretrainedImage
from recsys.encoder.backbones.image_scratch import VisionTransformer
from recsys.encoder.backbones.image_tower import resize
from recsys.encoder.modalities.image import ImageEncoder
from recsys.errors import ConfigError, ModelFolderError
from tests.encoder import tiny_backbones as backbones
from tests.encoder.shops import ENCODER, catalogue

KINDS = ("siglip", "clip", "vit", "dinov2", "swin", "convnext")


def field_of(name: str | Path, **changed) -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(ENCODER.model_copy(update={"image": str(name), "precision": "fp32", **changed})).eval()


def pictures(n: int = 8) -> dict[str, torch.Tensor]:
    return ImageEncoder.read(catalogue().images, np.arange(n))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: backbones.image_model(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_what_the_library_itself_makes_of_the_picture(folders: dict[str, Path], kind: str) -> None:
    field = field_of(folders[kind])
    whole_model = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    model = getattr(whole_model, "vision_model", whole_model)
    processor = transformers.AutoImageProcessor.from_pretrained(folders[kind])
    pixels = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        grid, whole = field.tower(pixels.float() / 255)
        theirs = model(**processor(list(pixels), do_resize=False, return_tensors="pt"))
    states = theirs.last_hidden_state
    if states.ndim == 3:
        states = states[:, states.shape[1] - grid.shape[2] * grid.shape[3] :].transpose(1, 2)
    np.testing.assert_allclose(grid.flatten(2), states.flatten(2), atol=2e-5)
    first = theirs.last_hidden_state[:, 0] if kind == "vit" else theirs.pooler_output
    if kind == "swin":  # a mean and nothing else, which a field takes by itself
        assert whole is None
    else:
        np.testing.assert_allclose(whole, first, atol=2e-5)
    side = {"siglip": 4, "clip": 4, "vit": 4, "dinov2": 4, "swin": 4, "convnext": 1}[kind]
    assert grid.shape[2:] == (side, side)


@pytest.mark.parametrize("name", ["vit", "resnet18", "mobilenet_v3_small", "siglip"])
def test_pictures_of_any_size_give_five_tokens(folders: dict[str, Path], name: str) -> None:
    field = field_of(folders.get(name, name))
    for size in (16, 50):
        x = {"pixels": torch.zeros(2, 3, size, size, dtype=torch.uint8), "has": torch.tensor([True, False])}
        assert field(x).x.shape == (2, 5, ENCODER.width)
        assert field({**x, "has": torch.tensor([False, False])}).real.sum() == 0


def test_the_small_transformer_knows_where_a_patch_lies() -> None:
    tower = VisionTransformer(ENCODER)
    pixels = torch.ones(1, 3, 32, 32)
    pixels[:, :, :8, :8] = 0
    at_once = tower(torch.cat([pixels, pixels.flip(3), pixels.flip(2)]))[0]
    assert at_once.shape == (3, ENCODER.width, 4, 4)
    means = at_once.mean((2, 3))
    assert (means[0] - means[1]).abs().max() > 1e-4 < (means[1] - means[2]).abs().max()


def test_pictures_come_to_the_size_mean_and_spread_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    made = models.resnet18()
    asked = {}

    def fetched(url: str, **how):
        asked.update(how, url=url)
        return made.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetched)
    field = field_of("ResNet18_Weights.DEFAULT")
    assert asked["weights_only"] is True and asked["check_hash"] is True and "resnet18" in asked["url"]
    pixels = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    given = models.ResNet18_Weights.DEFAULT.transforms()
    normal = (resize(pixels, 224) - torch.tensor(given.mean).view(3, 1, 1)) / torch.tensor(given.std).view(3, 1, 1)
    with torch.inference_mode():
        grid, whole = field.tower(pixels)
        body = torch.nn.Sequential(*list(made.eval().children())[:-2])
        np.testing.assert_allclose(grid, body(normal), atol=1e-4)
    assert grid.shape == (2, 512, 7, 7) and whole is None
    assert not any("fc" in name for name, _ in field.named_parameters())
    field.train()
    assert not any(p.requires_grad for p in field.tower.parameters())
    assert not field.tower.backbone.training


def test_an_architecture_without_weights_learns_as_a_whole_and_draws_no_chance() -> None:
    field = field_of("mobilenet_v3_small", tuning="frozen").train()
    x = pictures()
    field(x, torch.Generator().manual_seed(0)).x.square().sum().backward()
    assert all(p.grad is not None for p in field.tower.parameters())
    assert field.tower.backbone.training
    state = torch.get_rng_state()
    field(x, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_is_trained_in_fp32_on_the_cpu_whatever_the_precision_around_it() -> None:
    tower = field_of("mobilenet_v3_small").train().tower
    seen = []
    tower.backbone.register_forward_hook(lambda *arguments: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        feature_map, _ = tower(torch.rand(4, 3, 32, 32))
    assert seen == [False] and feature_map.dtype == torch.float32


@pytest.mark.parametrize("kind", ["siglip", "convnext"])
@pytest.mark.parametrize("tuning", ["frozen", "adapters", "tuned"])
def test_what_learns_is_what_was_asked_for(folders: dict[str, Path], kind: str, tuning: str) -> None:
    field = field_of(folders[kind], tuning=tuning).train()
    field(pictures(), torch.Generator().manual_seed(0)).x.square().sum().backward()
    got = {name for name, p in field.tower.named_parameters() if p.grad is not None}
    if tuning == "frozen":
        assert not got
    elif tuning == "adapters":
        assert got and all(name.endswith(("up.weight", "down.weight")) for name in got)
    else:
        assert len(got) == len(list(field.tower.backbone.parameters()))


def test_adapters_beside_convolutions_start_at_nothing_and_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    made = models.resnet18()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: made.state_dict())
    plain, field = field_of("ResNet18_Weights.DEFAULT"), field_of("ResNet18_Weights.DEFAULT", tuning="adapters")
    for one in (plain, field):
        one.tower.state()["size"] = 64
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        np.testing.assert_allclose(field.tower(pixels)[0], plain.tower(pixels)[0], atol=1e-5)
        for name, weight in field.named_parameters():
            if name.endswith("up.weight"):
                weight.normal_(0, 0.02)
        merged = field.tower(pixels)[0]
    assert (merged - plain.tower(pixels)[0]).abs().max() > 1e-3
    np.testing.assert_allclose(merged, field.tower(pixels)[0].detach(), atol=1e-3)


def test_bf16_points_the_same_way_as_fp32(folders: dict[str, Path]) -> None:
    x = pictures(6)
    with torch.inference_mode():
        exact, quick = (field_of(folders["siglip"], precision=p)(x).x for p in ("fp32", "bf16"))
    assert float(torch.nn.functional.cosine_similarity(exact, quick, dim=2).min()) > 0.9999
    assert not torch.equal(exact, quick)


def test_what_cannot_be_had_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, said in [
        ("resnet19", "no such network; did you mean 'resnet1"),
        ("ResNet18_Weights.IMAGENET2K", "no such weights; did you mean 'ResNet18_Weights.IMAGENET1K_V1'"),
        (tmp_path / "gone", r"no such folder"),
        (backbones.text_model(tmp_path / "bert"), "does not read RGB images"),
    ]:
        with pytest.raises(ConfigError, match=said):
            field_of(name)

    def away(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", away)
    with pytest.raises(ConfigError, match="could not be downloaded from https.*resnet18.*network"):
        field_of("ResNet18_Weights.DEFAULT")


def test_missing_weights_and_a_missing_processor_are_refused(tmp_path: Path) -> None:
    folder = backbones.image_model(tmp_path, "siglip")
    file = folder / "model.safetensors"
    held = load_file(file)
    gone = next(name for name in held if "vision_model" in name and "layers.1" in name)
    save_file({k: v for k, v in held.items() if k != gone}, file, {"format": "pt"})
    with pytest.raises(ModelFolderError, match="lack .*layers.1"):
        field_of(folder)
    save_file(held, file, {"format": "pt"})
    config = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match="no usable model"):
        field_of(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**config, "size": {"height": 64, "width": 64}}))
    with pytest.raises(ConfigError, match="cannot process an image of 64 x 64 pixels"):
        field_of(folder)


def test_many_pictures_are_seen_a_few_at_a_time(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    field = field_of(folders["vit"])
    sizes: list[int] = []
    see = PretrainedImage._compute
    monkeypatch.setattr("recsys.encoder.backbones.image_pretrained._MAX_PIXELS", 3 * 32**2)
    x = pictures(8)
    with torch.inference_mode():
        wanted = field(x).x
        monkeypatch.setattr(PretrainedImage, "_compute", lambda s, b, p, n: sizes.append(len(p)) or see(s, b, p, n))
        np.testing.assert_allclose(field(x).x, wanted, atol=1e-6)
    assert sizes == [3, 3, 1]
