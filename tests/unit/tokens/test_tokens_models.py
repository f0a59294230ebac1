"""Hugging Face embedders on tiny randomly initialised models that the test makes."""

from __future__ import annotations

import copy
import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from adbeam.errors import UserError
from adbeam.tokens.config import EmbedderConfig, TokensConfig
from adbeam.tokens.embedders.language import model_files
from adbeam.tokens.embedders.multimodal import INSTRUCTIONS, MultimodalEmbedder, pool
from adbeam.tokens.embedders.registry import build_embedder, load_embedder
from adbeam.tokens.encoder import LazyTokenizer
from adbeam.tokens.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

WORDS = (
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "<image>",
    "title:",
    "dark",
    "coffee",
    "red",
    "wine",
    "soap",
    "product.",
    "stream.",
)


@pytest.fixture(scope="module")
def tokenizer() -> object:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    backend = Backend(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, additional_special_tokens=["<image>"], **special
    )


@pytest.fixture(scope="module")
def text_model(tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(WORDS), **small)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def image_model(tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = transformers.CLIPVisionConfig(image_size=8, patch_size=4, projection_dim=16, **small)
    text = transformers.LlamaConfig(vocab_size=len(WORDS), num_key_value_heads=2, max_position_embeddings=256, **small)
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=4)
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    transformers.LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=4, vision_feature_select_strategy="default",
        image_token="<image>", num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def picture(colour: tuple[int, int, int]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (12, 10), colour).save(stream, "PNG")
    return stream.getvalue()


def ads(**columns: list) -> pa.Table:
    rows = len(next(iter(columns.values())))
    return pa.table({"item_id": [f"ad{n}" for n in range(rows)], **columns})


def config(kind: str, folder: Path, **values: object) -> EmbedderConfig:
    return EmbedderConfig(kind=kind, model_dir=folder, text_fields=("title",), **values)


def test_a_text_model_gives_unit_vectors_whatever_the_batch(text_model: Path) -> None:
    titles = ["dark coffee", "red wine soap coffee dark", "", "soap"]
    one = build_embedder(config("language", text_model, model_batch=1)).embed(ads(title=titles))
    many = build_embedder(config("language", text_model, model_batch=4)).embed(ads(title=titles))
    np.testing.assert_allclose(one, many, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), [1, 1, 0, 1], atol=1e-5)
    assert abs(one[0] @ one[3]) < 0.999


def test_a_text_model_tokenizes_and_is_read_again_from_its_folder(text_model: Path) -> None:
    embedder = config("language", text_model, behaviour_dimensions=0)
    table = ads(title=["dark coffee", "red wine", "soap", "coffee wine", "soap dark", "red soap"])
    tokenizer = Tokenizer.build(
        TokensConfig(embedder=embedder, quantizer={"business_fields": ["item_id"]}), (2, 2, 8), seed=0
    )
    tokenizer.fit(table, None, seed=0)
    for again in (Tokenizer.from_state(*tokenizer.state()), copy.deepcopy(tokenizer)):
        np.testing.assert_array_equal(again.encode(table).sids_NT, tokenizer.encode(table).sids_NT)


def test_a_model_is_known_by_its_weights_wherever_it_lies(text_model: Path, tmp_path: Path) -> None:
    table = ads(title=["dark coffee", "red wine", "soap", "coffee wine", "soap dark", "red soap"])
    settings = TokensConfig(
        embedder=config("language", text_model, behaviour_dimensions=0), quantizer={"business_fields": ["item_id"]}
    )
    tokenizer = Tokenizer.build(settings, (2, 2, 8), seed=0)
    tokenizer.fit(table, None, seed=0)
    carried = tmp_path / "embedder"
    carried.mkdir()
    for path in model_files(text_model):
        shutil.copyfile(path, carried / path.name)
    moved = LazyTokenizer(*tokenizer.state(), model_dir=carried)
    assert moved.version == tokenizer.version
    np.testing.assert_array_equal(moved.encode(table).sids_NT, tokenizer.encode(table).sids_NT)
    torch.manual_seed(1)
    other = transformers.AutoModel.from_pretrained(carried)
    torch.nn.init.normal_(other.embeddings.word_embeddings.weight)
    other.save_pretrained(carried)
    with pytest.raises(UserError, match="its weights are not those the tokens were made with"):
        LazyTokenizer(*tokenizer.state(), model_dir=carried).encode(table)


def test_image_text_and_ad_form_each_change_the_vector(image_model: Path) -> None:
    red, blue = picture((250, 0, 0)), picture((0, 0, 250))
    table = ads(
        title=["dark coffee"] * 4 + ["red wine", "", ""],
        image=[red, red, blue, None, red, red, None],
        ad_form=["product", "live_stream", "product", "product", "product", None, None],
    )
    x_NE = build_embedder(config("multimodal", image_model, model_batch=3)).embed(table)
    np.testing.assert_allclose(np.linalg.norm(x_NE, axis=1), [1, 1, 1, 1, 1, 1, 0], atol=1e-5)
    different = [np.abs(x_NE[0] - x_NE[other]).max() for other in range(1, 6)]
    assert min(different) > 1e-4
    alone = build_embedder(config("multimodal", image_model, model_batch=1)).embed(table)
    np.testing.assert_allclose(alone, x_NE, atol=1e-4)


def test_frames_paths_and_unreadable_images(image_model: Path, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(picture((250, 0, 0)))
    embedder = build_embedder(config("multimodal", image_model, image_root=tmp_path))
    x_NE = embedder.embed(ads(title=["wine"] * 3, image=["red.png", "absent.png", None]))
    assert np.isfinite(x_NE[[0, 2]]).all() and not x_NE[1].any()
    frames = embedder.embed(ads(title=["wine"], image=[["red.png", "red.png"]]))
    assert np.abs(frames[0] - x_NE[0]).max() > 1e-4


def test_every_ad_form_has_its_instruction(image_model: Path) -> None:
    embedder = build_embedder(config("multimodal", image_model))
    assert isinstance(embedder, MultimodalEmbedder) and len(set(INSTRUCTIONS.values())) == 6
    assert embedder._prompt(["tea"], "influencer", 0) == INSTRUCTIONS["influencer"] + "\ntitle: tea"
    assert embedder._prompt(["tea"], "unheard of", 1).startswith("<image> " + INSTRUCTIONS["general"])


def test_pooling_ignores_padding_on_either_side() -> None:
    hidden_NLE = torch.tensor([[[1.0], [3.0], [9.0]], [[9.0], [1.0], [3.0]]])
    mask_NL = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert pool(hidden_NLE, mask_NL, "mean").tolist() == [[2.0], [2.0]]
    assert pool(hidden_NLE, mask_NL, "last").tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize("kind", ["language", "multimodal"])
def test_a_folder_that_is_no_model_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a Hugging Face model folder: it holds no config"):
        build_embedder(config(kind, tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"model_dir.*not a Hugging Face model folder"):
        build_embedder(config(kind, tmp_path))


def test_a_text_model_is_no_multimodal_one(text_model: Path) -> None:
    with pytest.raises(UserError, match="not a Hugging Face model folder"):
        build_embedder(config("multimodal", text_model))


def test_settings_alone_restore_the_embedder(text_model: Path) -> None:
    embedder = build_embedder(config("language", text_model))
    table = ads(title=["dark coffee"])
    np.testing.assert_array_equal(load_embedder(*embedder.state()).embed(table), embedder.embed(table))
