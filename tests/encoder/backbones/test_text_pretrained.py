import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from recsys.encoder.backbones.text_pretrained import PretrainedText
from recsys.encoder.modalities import text
from recsys.encoder.modalities.text import TextEncoder
from recsys.errors import ConfigError, ModelFolderError
from tests.encoder import tiny_backbones as backbones
from tests.encoder.shops import ENCODER

SAID = ["black boots", "a dress of red silk, long and warm", "靴子 连衣裙", "boots", "", "حذاء أحمر 👢"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: backbones.text_model(tmp_path_factory.mktemp(kind), kind) for kind in ("bert", "roberta", "gpt2")}


def field_of(folder: Path, **changed) -> TextEncoder:
    torch.manual_seed(0)
    settings = ENCODER.model_copy(update={"text": str(folder), "precision": "fp32", **changed})
    return TextEncoder.fit([], ["title"], settings).eval()


def tokens_of(field: TextEncoder, texts=SAID) -> torch.Tensor:
    return field.pad(field.token_ids(texts))["tokens"]


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_the_gist_is_what_the_library_itself_makes_of_the_text(folders: dict[str, Path], kind: str) -> None:
    field = field_of(folders[kind])
    model = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[kind])
    with torch.inference_mode():
        gist = field.pool(tokens_of(field, SAID[:4]))
        for said, own in zip(SAID[:4], gist, strict=True):
            ids = tokenizer(said, add_special_tokens=False)["input_ids"][: field.max_tokens]
            around = field.tower.state()
            whole = torch.tensor([[*around["prefix"], *ids, *around["suffix"]]])
            theirs = model(input_ids=whole).last_hidden_state[0].mean(0)
            np.testing.assert_allclose(own, theirs, atol=1e-5)
    assert bool(around["prefix"]) == (kind != "gpt2")


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_everything_the_objectives_ask_for_is_there(folders: dict[str, Path], kind: str) -> None:
    field = field_of(folders[kind], text_tokens=500)
    tokens = tokens_of(field)
    hidden = field.hidden_states(tokens)
    longest = int((tokens != text.PAD).sum(1).max())
    assert hidden.shape == (len(SAID), text.N_SUMMARY_TOKENS + longest, ENCODER.width)
    assert field.embedding.weight.shape == (field.tokenizer.get_vocab_size() + 3, ENCODER.width)
    seen = field({"tokens": tokens})
    assert bool(torch.isfinite(seen.x).all())
    assert seen.real[:, 0].tolist() == [True, True, True, True, False, True]
    np.testing.assert_allclose(seen.x.detach(), hidden[:, : text.N_SUMMARY_TOKENS].detach(), atol=1e-5)
    masked = field.hidden_states(tokens.masked_fill(tokens == tokens[0, 0], text.MASK))
    assert (masked[0] - hidden[0]).abs().max() > 1e-4
    assert tokens.shape[1] == {"bert": 14, "roberta": 14, "gpt2": 20}[kind], "places the model has"
    assert bool(torch.isfinite(field.hidden_states(tokens_of(field, ["boots " * 5000]))).all())


def test_a_text_has_the_same_vector_whatever_stands_beside_it(folders: dict[str, Path]) -> None:
    field = field_of(folders["bert"])
    tokens = tokens_of(field, SAID * 30)
    with torch.inference_mode():
        every = field.pool(tokens)
        alone = torch.cat([field.pool(tokens[at : at + 1]) for at in range(len(SAID))])
        turned = field.pool(tokens.flip(0)).flip(0)
    np.testing.assert_allclose(every[: len(SAID)], alone, atol=1e-6)
    np.testing.assert_allclose(every, turned, atol=1e-6)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_cls_token": False}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"word_embedding_dimension": 24}, "mean"),
    ],
)
def test_pooling_is_read_from_the_folder(folders: dict[str, Path], tmp_path: Path, said: dict, name: str) -> None:
    folder = backbones.text_model(tmp_path)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    field = field_of(folder)
    assert field.tower.state()["pooling"] == name
    tokens = tokens_of(field)
    with torch.inference_mode():
        states, real = field.tower._run_backbone(tokens[:1].long())
        wanted = {"cls": states[0, 0], "last": states[0, real.sum() - 1], "mean": states[0][real[0]].mean(0)}[name]
        np.testing.assert_allclose(field.pool(tokens)[0], wanted, atol=1e-5)


def test_pooling_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = backbones.text_model(tmp_path)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ConfigError, match="max_tokens"):
        field_of(folder)


def test_missing_or_misshapen_weights_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = backbones.text_model(tmp_path)
    file = folder / "model.safetensors"
    held = load_file(file)
    name = "encoder.layer.1.output.dense.weight"
    save_file({key: value for key, value in held.items() if key != name}, file, {"format": "pt"})
    with pytest.raises(ModelFolderError, match=f"lack {name}"):
        field_of(folder)
    save_file({**held, name: held[name][:5].clone()}, file, {"format": "pt"})
    with pytest.raises(ModelFolderError, match=rf"hold {name} as \(5, 32\) instead of \(24, 32\)"):
        field_of(folder)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="no usable model"):
        field_of(folder)
    file.unlink()
    with pytest.raises(ConfigError, match="no usable model"):
        field_of(folder)


def test_a_layer_behind_the_first_token_may_be_missing_because_it_is_not_used(tmp_path: Path) -> None:
    folder = backbones.text_model(tmp_path)
    file = folder / "model.safetensors"
    before = field_of(folder).pool(torch.tensor([[5, 6]]))
    save_file({k: v for k, v in load_file(file).items() if "pooler" not in k}, file, {"format": "pt"})
    np.testing.assert_array_equal(field_of(folder).pool(torch.tensor([[5, 6]])), before)


def test_code_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    folder = backbones.text_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "evil.py").write_text("raise SystemExit('run')")
    config.update(model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="no usable model"):
        field_of(folder)


def test_what_is_no_text_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no such folder \(.*gone/model\)"):
        field_of(tmp_path / "gone" / "model")
    with pytest.raises(ConfigError, match="not a plain text encoder"):
        field_of(backbones.image_model(tmp_path / "clip", "clip"))
    with pytest.raises(ConfigError, match="model like BERT"):
        field_of(backbones.image_model(tmp_path / "convnext", "convnext"))

    def away(*_, **__):
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", away)
    with pytest.raises(ConfigError, match="could not be downloaded from the hub.*connect.*network"):
        field_of(Path("somebody/model"))


@pytest.mark.parametrize("tuning", ["frozen", "adapters", "tuned"])
def test_what_learns_is_what_was_asked_for(folders: dict[str, Path], tuning: str) -> None:
    field = field_of(folders["bert"], tuning=tuning, adapter_rank=3).train()
    tokens = tokens_of(field)
    before = field({"tokens": tokens}).x.detach().clone()
    field({"tokens": tokens}).x.square().sum().backward()
    got = {name for name, p in field.named_parameters() if p.grad is not None and "backbone" in name}
    assert not any(module.training for module in field.tower.backbone.modules())
    assert any(module.training for module in field.tower.summarise.modules())
    if tuning == "frozen":
        assert not got
    elif tuning == "adapters":
        assert got and all(name.endswith(("up.weight", "down.weight")) for name in got)
        assert field.tower.backbone.encoder.layer[0].attention.self.query.down.weight.shape == (3, 24)
    else:
        assert len(got) == len(list(field.tower.backbone.parameters()))
        assert {p.pace for p in field.tower.backbone.parameters()} == {ENCODER.tuning_pace}
    np.testing.assert_allclose(before, field.eval()({"tokens": tokens}).x.detach(), atol=1e-5)


def test_merged_adapters_say_the_same_and_changed_weights_are_seen(folders: dict[str, Path]) -> None:
    field = field_of(folders["bert"], tuning="adapters")
    tokens = tokens_of(field)
    with torch.no_grad():
        before = field.pool(tokens)
        for name, weight in field.named_parameters():
            if name.endswith("up.weight"):
                weight.add_(0.05)
        after = field.pool(tokens)
    assert (after - before).abs().max() > 1e-3
    np.testing.assert_allclose(after, field.pool(tokens).detach(), atol=1e-5)  # with gradients: not merged


def test_remembered_texts_are_not_read_again_and_others_are(folders: dict[str, Path], monkeypatch) -> None:
    field = field_of(folders["bert"]).train()
    tokens = tokens_of(field)
    wanted = field.pool(tokens)
    field.cache_pooled({"tokens": tokens[:4]})
    asked: list[int] = []
    read = PretrainedText.pool
    monkeypatch.setattr(PretrainedText, "pool", lambda self, some: asked.append(len(some)) or read(self, some))
    np.testing.assert_allclose(field.pool(tokens[[3, 1, 1, 0]]), wanted[[3, 1, 1, 0]], atol=1e-6)
    assert asked == []
    np.testing.assert_allclose(field.pool(tokens[[5, 2]]), wanted[[5, 2]], atol=1e-6)
    assert asked == [1]
    learning = field_of(folders["bert"], tuning="adapters").train()
    learning.cache_pooled({"tokens": tokens})
    assert learning._cached is None


def test_bf16_points_the_same_way_as_fp32(folders: dict[str, Path]) -> None:
    exact, quick = field_of(folders["bert"]), field_of(folders["bert"], precision="bf16")
    with torch.inference_mode():
        a, b = (torch.nn.functional.normalize(f.pool(tokens_of(f)), dim=1) for f in (exact, quick))
    assert float((a * b).sum(1).min()) > 0.9999
    assert not torch.equal(a, b)


class TestMiniLM:
    """The real all-MiniLM-L6-v2."""

    @pytest.fixture(scope="class")
    @staticmethod
    def field() -> TextEncoder:
        return field_of(backbones.minilm(), text_tokens=64)

    def test_like_texts_lie_close(self, field: TextEncoder) -> None:
        said = ["red running shoes", "crimson sneakers for jogging", "a porcelain tea pot", "sun hat"]
        with torch.inference_mode():
            v = torch.nn.functional.normalize(field.pool(tokens_of(field, said)), dim=1)
        close = v @ v.T
        assert float(close[0, 1]) > 0.6 > 0.3 > float(close[0, 2:].max())

    def test_bf16_points_the_same_way_and_company_changes_nothing(self, field: TextEncoder) -> None:
        quick = field_of(backbones.minilm(), text_tokens=64, precision="bf16")
        said = ["red running shoes", "Jersey top with narrow shoulder straps. " * 3, "靴子", "tea pot"]
        with torch.inference_mode():
            exact, fast = field.pool(tokens_of(field, said)), quick.pool(tokens_of(quick, said))
            alone = field.pool(tokens_of(field, said[:1]))
        assert float(torch.nn.functional.cosine_similarity(exact, fast).min()) > 0.9999
        np.testing.assert_allclose(alone, exact[:1], atol=1e-5)
