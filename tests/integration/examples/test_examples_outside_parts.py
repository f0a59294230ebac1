"""A package outside adbeam brings one part of each kind, and YAML chooses them; nothing of adbeam is touched."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "outside_parts"
WORDS = ("bread", "cheese", "coffee", "fruit", "pasta", "soap", "tea", "wine")

JOBS = """
    import json, sys
    import adbeam
    from adbeam.logs.pipeline import run
    from adbeam.objectives.lists import list_loss
    from adbeam.objectives.rspo import ListBatch
    import torch

    assert "outside_parts" not in sys.modules
    config = adbeam.Config.load(sys.argv[1])
    loaded = {name for name in sys.modules if name.startswith("outside_parts")}
    assert not loaded, loaded  # settings check names and load no part
    run(config, in_process=True)
    loaded = {name for name in sys.modules if name.startswith("outside_parts")}
    assert loaded == {"outside_parts", "outside_parts.source"}, loaded  # only the one that is named
    adbeam.steps.tokenize(config)
    policy_BN = torch.tensor([[-1.0, -1.2, -3.0]], requires_grad=True)
    reward_BN, mask_BN = torch.tensor([[1.0, 2.0, 0.0]]), torch.ones(1, 3, dtype=torch.bool)
    lists = ListBatch(policy_BN, policy_BN.detach(), reward_BN, mask_BN)
    loss, _ = list_loss({}, lists, config.objectives)
    assert torch.isclose(loss, torch.tensor(0.7 / 3)), loss  # three pairs, one of them the wrong way round
    plain = adbeam.Config.load(sys.argv[1], {"objectives.preference.method": "none"})
    adbeam.steps.train(plain)
    print(adbeam.steps.export(plain))
"""
SERVED = """
    import asyncio, json, sys
    import adbeam
    from adbeam.beams.cost import BatchCost
    from adbeam.records import Event
    from adbeam.serving.config import ServingConfig
    from adbeam.serving.deploy.policy import read_policy
    from adbeam.serving.engine.load_model import load_model
    from adbeam.serving.monitoring.metrics import Metrics
    from adbeam.serving.service import RecommenderService
    from adbeam.serving.stores.load import open_store

    bundle, policy_yaml = sys.argv[1:]
    args = {"bundle": bundle, "policy": policy_yaml, "store": {"backend": "memory"}, "engine": {"own_process": False}}
    config = ServingConfig.parse(args)
    policy = read_policy(config.policy)
    store, metrics = open_store(config.store), Metrics()
    item = adbeam.Bundle.load(bundle).catalogue["item_id"][0].as_py()
    store.append([Event(event_id="1", request_id="1", user_id="ann", timestamp=1_700_000_000_000, item_id=item,
                        item_kind="ad", scene="list", action="conversion", price=1.0)])
    assert type(store).__module__ == "outside_parts.history_store"

    async def main():
        model = load_model(config.bundle, config, policy, store, metrics, BatchCost(1.0, 0.5, 0.01))
        service = RecommenderService(config, model, policy, store, metrics)
        service.start()
        asked = service.request_type.model_validate_json('{"user_id": "ann", "count": 5}')
        answer = json.loads(await service.ads(asked, 5000, asyncio.get_running_loop().time()))
        status = json.loads(service.status())
        service.close()
        return answer, status

    answer, status = asyncio.run(main())
    assert not answer["served"]["cold_start"] and len(answer["ads"]) == 5, answer
    assert answer["served"]["widths"] == answer["served"]["full_widths"]
    print(json.dumps(status["policy"]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package has been installed, as any index would deliver it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for path in [EXAMPLE / "pyproject.toml", *EXAMPLE.glob("outside_parts/*.py")]:  # pip builds where the source lies
        copy = source / path.relative_to(EXAMPLE)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True)
    return target


def write_log(folder: Path) -> None:
    """Two files of events and one of items; two users of the first file mean nobody."""
    folder.mkdir(parents=True)
    draw = random.Random(0)
    items = [f"{WORDS[n % 8]} {WORDS[n % 5]} {n}" for n in range(60)]
    (folder / "items.txt").write_text("".join(f"i{n}\t{title}\n" for n, title in enumerate(items)))
    for day in (1, 2):
        lines = []
        for user in [*(f"u{n}" for n in range(30)), "guest"]:
            for visit in range(5):
                second = 1_600_000_000 + day * 86_400 + visit * 600
                lines.append(f"{second}\t{user}\ti{draw.randrange(60)}\tconversion\t{draw.randrange(1, 9)}.5\n")
        (folder / f"day{day}.txt").write_text("".join(lines))


def run(script: str, folder: Path, site: Path, *arguments: str) -> str:
    """What `script` printed last, run in `folder` with the installed package beside adbeam."""
    path = os.pathsep.join([str(site), str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-4000:]
    return answer.stdout.strip().splitlines()[-1]


def test_one_part_of_each_kind_is_used_by_yaml(installed: Path, tmp_path: Path) -> None:
    write_log(tmp_path / "runs" / "outside_parts" / "log")
    bundle = run(JOBS, tmp_path, installed, str(EXAMPLE / "job.yaml"))
    prepared = json.loads((tmp_path / "runs/outside_parts/prepared/account.json").read_text())
    assert prepared["kept"] == 300 and prepared["quarantined"] == 10
    settings = json.loads((tmp_path / bundle / "config.json").read_text())
    assert settings["model"]["decoder"] == "first_code" and settings["model"]["options"] == {"weight": 3.0}
    tokens = settings["settings"]["tokens"]
    assert (tokens["embedder"]["kind"], tokens["quantizer"]["method"]) == ("letters", "signs")
    steps = [json.loads(line) for line in (tmp_path / "runs/outside_parts/steps.jsonl").read_text().splitlines()]
    assert steps[0]["seed"] == 0 and steps[-1] == {"status": "finished"} and any("step" in row for row in steps)
    policy = json.loads(run(SERVED, tmp_path, installed, bundle, str(EXAMPLE / "policy.yaml")))
    assert policy == "calm" or policy["policy"] == "calm"


def test_its_policy_answers_a_simulated_spike_that_static_does_not(installed: Path) -> None:
    """What examples/own_policy.py prints."""
    script = (ROOT / "examples" / "own_policy.py").read_text(encoding="utf-8") + "\nprint('done')"
    assert run(script, ROOT, installed) == "done"


def test_without_the_package_the_names_are_refused_with_the_nearest(tmp_path: Path) -> None:
    code = "import adbeam, sys; adbeam.Config.load(sys.argv[1])"
    command = [sys.executable, "-c", code, str(EXAMPLE / "job.yaml")]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 1
    assert "logs.source: there is none of that name; did you mean 'files'?" in answer.stderr
