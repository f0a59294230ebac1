"""Reading YAML: what is malformed is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adbeam.config import Config
from adbeam.errors import UserError, nearest_name
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.config_file import read_serve_config
from adbeam.settings import parse_yaml, read_yaml, set_key
from adbeam.workdir import WorkDir

ROOT = Path(__file__).parents[3]


def test_a_key_that_stands_twice_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("model:\n  width: 64\n  layers: 2\n  width: 128\n")
    with pytest.raises(UserError, match=r"job\.yaml is not valid YAML: .*'width' stands twice.*\n.*line 4"):
        read_yaml(path)


def test_the_same_key_in_two_mappings_and_a_merged_one_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\nc: [{x: 1}, {x: 2}]\n"
    assert parse_yaml(text, "text") == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": [{"x": 1}, {"x": 2}]}


def test_plain_keys_are_the_words_that_were_written_and_values_are_values() -> None:
    text = "status: {on: active, off: paused, yes: no}\naction: {007: click, 1.50: x, null: 3}\n"
    status = {"on": "active", "off": "paused", "yes": False}
    assert parse_yaml(text, "text") == {"status": status, "action": {"007": "click", "1.50": "x", "null": 3}}


def test_a_merged_mapping_keeps_its_keys_as_written_too() -> None:
    assert parse_yaml("a: &a {no: 1}\nb: {<<: *a, on: 2}\n", "text")["b"] == {"no": 1, "on": 2}


@pytest.mark.parametrize(("content", "message"), [(b"a: [1", "not valid YAML"), (b"\xff\xfe\x00", "not valid YAML")])
def test_a_malformed_file_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.yaml is {message}"):
        read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"workers": [3, 2], "dtype": "bf16"}, r"job\.yaml: training: workers must be .*; got workers \[3, 2\]$"),
        (
            {"deepspeed": {"gradient_clipping": 5}},
            r"training: deepspeed\.gradient_clipping is set .*; got deepspeed \{'gradient_clipping': 5\}$",
        ),
        ({"schedule": "cosin"}, r"training\.schedule: .*; got 'cosin'$"),
    ],
)
def test_a_rule_over_several_settings_tells_those_that_it_names(training: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config.parse({"training": training}, "job.yaml")


def test_a_dotted_key_makes_the_sections_on_its_way_and_leaves_the_rest() -> None:
    values: dict[str, object] = {"training": None, "model": {"width": 64}}
    set_key(values, "training.deepspeed.stage", 2, "job.yaml")
    set_key(values, "model.layers", 3, "job.yaml")
    set_key(values, "seed", 1, "job.yaml")
    assert values == {"training": {"deepspeed": {"stage": 2}}, "model": {"width": 64, "layers": 3}, "seed": 1}


def test_a_dotted_key_through_a_value_is_refused_with_field_value_and_remedy() -> None:
    words = r"job\.yaml: a\.size: is no section, so a\.size\.x cannot be set; got 'tiny'; set a\.size itself"
    with pytest.raises(UserError, match=words):
        set_key({"a": {"size": "tiny"}}, "a.size.x", 1, "job.yaml")


@pytest.mark.parametrize("content", ["size: small\n", "{}\n"])
def test_every_reader_of_overrides_refuses_a_key_below_a_value(tmp_path: Path, content: str) -> None:
    (tmp_path / "job.yaml").write_text(content)
    with pytest.raises(UserError, match="size"):
        Config.load(tmp_path / "job.yaml", {"size.x": 1})
    with pytest.raises(UserError, match=r"ads\.yaml: args\.bundle: is no section"):
        read_serve_config(ROOT / "serving" / "ads.yaml", overrides={"bundle.x": 1})


def test_the_nearest_name_is_told_however_far_it_is() -> None:
    assert nearest_name("learning_rat", ["warmup", "learning_rate"]) == "learning_rate"
    assert nearest_name("zzz", ["warmup"]) == "warmup" and nearest_name("x", []) is None


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://b/x", "hdfs://h:9000/x", "file:///x", "s3:/b/x"])
def test_a_url_is_no_work_dir(url: str) -> None:
    with pytest.raises(UserError, match=rf"^job\.yaml: work_dir: is a URL.*mount the storage.*{url}"):
        Config.parse({"work_dir": url}, "job.yaml")
    with pytest.raises(UserError, match=r"^work_dir: is a URL.*got 's3:/bucket/x'"):
        WorkDir.of(Path("s3://bucket/x"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("logs.files.events.path.0", {"logs": {"files": {"events": "s3://b/log", "catalogue": "ads"}}}),
        ("logs.files.catalogue.path.1", {"logs": {"files": {"events": "log", "catalogue": ["ads", "gs://b/ads"]}}}),
        ("logs.sequences.path", {"logs": {"sequences": {"path": "hdfs://h/log.txt"}}}),
        ("logs.completejourney.folder", {"logs": {"completejourney": {"folder": Path("s3://b/cj")}}}),
        ("training.start_from", {"training": {"start_from": "s3://b/weights"}}),
        ("online.events", {"online": {"events": "s3://b/events"}}),
        ("tokens.embedder.image_root", {"tokens": {"embedder": {"image_root": "https://host/images"}}}),
    ],
)
def test_a_url_is_no_path_of_a_job(setting: str, value: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"{setting}: is a URL"):
        Config.parse(value)


@pytest.mark.parametrize("setting", ["bundle", "store.path", "store.prepared", "event_log.folder", "updates.path"])
def test_a_url_is_no_path_of_an_endpoint(setting: str) -> None:
    values: dict[str, Any] = {}
    set_key(values, setting, "s3://bucket/x", "args")
    with pytest.raises(UserError, match=rf"args: {setting}: is a URL"):
        ServingConfig.resolve(values)


def test_paths_and_what_is_meant_to_be_a_url_stay() -> None:
    for path in ("runs/a:b", "/data/dt=2025-03-01T08:00/x", "C:/data", "log/**/*.csv"):
        assert Config.parse({"work_dir": path}).work_dir == Path(path)
    assert ServingConfig.parse({"updates": {"redis_url": "redis://host:6379/1"}}).updates.redis_url
