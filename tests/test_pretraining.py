"""How shipped weights are made: the clips, the training, the gates and the shipping, on plans of a few clips."""

import json
import math
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from torch import Tensor

import mer_zoo
from mer_zoo.datasets.megc2019_flow import MEGC2019Flow
from mer_zoo.errors import LeakError
from mer_zoo.guards import check_seen
from mer_zoo.preprocessing.forms import cook_flow, cook_frames
from mer_zoo.training import ClipDataset, fit, predict
from mer_zoo.types import Sample

sys.path.append(str(Path(__file__).parents[1] / "tools"))

import ablate
import clip_pool
import gates
import pretrain
import ship
from clip_pool import UNKNOWN, Pool, Shard, pool_of
from pretrain import PLANS, Heads, Plan, finished, train

CLIPS = 100  # three shards of one family, and most of a fourth, of the other
TINY = {
    "ststnet": replace(PLANS["ststnet"], clips=CLIPS, epochs=3, batch_size=8),
    "dat_densenet3d": replace(PLANS["dat_densenet3d"], clips=54, epochs=3, batch_size=8),
}
THREE = {"negative": 0, "positive": 1, "surprise": 2, "happiness": 1, "disgust": 0, "repression": 0}
FIVE = ["happiness", "surprise", "disgust", "repression", "others"]
UNITS = [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17]

networks = pytest.mark.parametrize("name", list(TINY))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    pool_of(CLIPS, folder)
    return folder


@pytest.fixture(scope="module")
def pool(rendered: Path) -> Pool:
    return pool_of(CLIPS, rendered)


def _part(pool: Pool, plan: Plan) -> Pool:
    """The first clips of a pool, as many as a plan has."""
    clips = np.concatenate(pool.shards)[: plan.clips]
    targets = {task: values[: plan.clips] for task, values in pool.targets.items()}
    return replace(
        pool, shards=[clips], targets=targets, apexes=pool.apexes[: len(clips)], presets=pool.presets[: len(clips)]
    )


def _corpus(number: int, classes: Any, family: str, preset: str) -> Any:
    return mer_zoo.open_corpus(
        "synthetic",
        subjects=3,
        clips_per_subject=9,
        seed=6_000_001 + number,
        preset=preset,
        classes=classes,
        family=family,
        label_noise=0.0,
    )


CORPORA = [
    (0, "au", "head", "default"),
    (1, 3, "head", "default"),
    (2, 5, "head", "default"),
    (3, "au", "field", "default"),
]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Of all clips in the pool, from the corpora themselves."""
    return [sample for corpus in CORPORA for sample in _corpus(*corpus).samples][:CLIPS]


# Clips


def test_the_mixture_follows_from_the_number_alone() -> None:
    shards = [Shard(number) for number in range(60)]
    kinds = [(shard.knobs["classes"], shard.knobs["family"], shard.preset) for shard in shards]
    assert kinds[:30] == kinds[30:]
    assert {kind[:2] for kind in kinds[:6]} == {(c, f) for c in ("au", 3, 5) for f in ("head", "field")}
    assert [kinds.count(("au", "field", preset)) for preset in ("easy", "default", "hard")] == [2, 6, 2]
    assert {shard.knobs["label_noise"] for shard in shards} == {0.0}
    assert {shard.knobs["family"] for shard in (Shard(n, ("head",)) for n in range(30))} == {"head"}


def test_no_two_shards_share_a_person_and_none_has_one_that_is_tested() -> None:
    seeds = [Shard(number).knobs["seed"] for number in range(10_800 // 27)]
    assert len(set(seeds)) == len(seeds)
    persons = [{s.person for s in _corpus(*corpus).samples} for corpus in CORPORA]
    assert sum(map(len, persons)) == len(set.union(*persons)) == 12
    assert gates.TEST_SEED not in seeds


def test_clips_and_apexes_are_those_of_the_corpora(pool: Pool, samples: list[Sample]) -> None:
    clips = list(pool.clips())
    assert len(pool) == len(clips) == len(pool.presets) == CLIPS
    assert [len(shard) for shard in pool.shards] == [27, 27, 27, 19]
    for i in (0, 26, 27, 80, 81, 99):
        np.testing.assert_array_equal(clips[i], _corpus(*CORPORA[i // 27]).clip(samples[i]))
    assert pool.apexes == [s.apex for s in samples]
    assert set(pool.presets) == {"default"}


def test_shards_are_the_same_from_one_process_and_from_two(pool: Pool, tmp_path: Path) -> None:
    other = pool_of(54, tmp_path, jobs=2)
    np.testing.assert_array_equal(np.concatenate(other.shards), np.concatenate(pool.shards[:2]))
    assert all(torch.equal(other.targets[task], pool.targets[task][:54]) for task in ("3", "5", "au"))
    assert sorted(f.suffix for f in tmp_path.iterdir()) == [".json", ".json", ".npy", ".npy"]


def test_half_a_shard_is_rendered_anew_and_a_whole_one_is_not(rendered: Path, tmp_path: Path) -> None:
    for file in rendered.glob("600000[12]-*"):
        shutil.copy2(file, tmp_path / file.name)
    half, whole = next(tmp_path.glob("6000001-*.npy")), next(tmp_path.glob("6000002-*.npy"))
    half.with_suffix(".json").unlink()
    half.write_bytes(half.read_bytes()[:1000])
    before = whole.stat()
    pool_of(54, tmp_path)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (rendered / file.name).read_bytes()
    assert len(list(tmp_path.iterdir())) == 4
    assert (whole.stat().st_mtime_ns, whole.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_targets_are_what_the_corpora_say(pool: Pool, samples: list[Sample]) -> None:
    """Worked out by hand; a clip of the class `others`, or made for its units, is of none of three."""
    made_for = [classes for _, classes, *_ in CORPORA for _ in range(27)][:CLIPS]
    three = [THREE.get(s.emotion, UNKNOWN) for s in samples]
    five = [FIVE.index(s.emotion) if made == 5 else UNKNOWN for s, made in zip(samples, made_for, strict=True)]
    units = [[int(unit in {u.number for u in s.aus}) for unit in UNITS] for s in samples]
    assert pool.targets["3"].tolist() == three
    assert pool.targets["5"].tolist() == five
    assert pool.targets["au"].tolist() == units
    assert set(three) == {UNKNOWN, 0, 1, 2}
    assert sorted(set(five)) == [UNKNOWN, 0, 1, 2, 3, 4]
    assert [np.sum(np.array(targets) == UNKNOWN) for targets in (three, five)] == [
        27 + 19 + five.count(4),
        27 + 27 + 19,
    ]


# What a network eats


@pytest.mark.parametrize("name", ["dat_densenet3d", "dat_densenet3d_se"])
def test_frames_are_scaled_as_they_are_cooked(name: str, pool: Pool) -> None:
    spec, clips = mer_zoo.input_spec(name), pool.shards[1][:4]
    cooked = np.stack([cook_frames(clip, spec) for clip in clips])
    assert {"dat_densenet3d": "difference", "dat_densenet3d_se": "clip"}[name] == spec.kind
    scaled = pretrain.scaled(torch.from_numpy(np.array(clips)).float(), spec)
    np.testing.assert_allclose(scaled.numpy(), cooked, rtol=0, atol=1e-6)
    assert cooked.std() > 0.01


def test_flow_is_cooked_from_onset_to_apex(pool: Pool) -> None:
    plan = replace(TINY["ststnet"], shift=0)
    spec = replace(mer_zoo.input_spec("ststnet"), flow_method="dis")
    inputs = pretrain.Inputs(plan, _part(pool, replace(plan, clips=5)), spec)
    for i, clip in enumerate(list(pool.clips())[:5]):
        np.testing.assert_array_equal(inputs.stock[i].numpy(), cook_flow(clip[0], clip[pool.apexes[i]], spec))


@networks
def test_batches_are_what_the_network_allows_and_differ_each_time(name: str, pool: Pool) -> None:
    plan = TINY[name]
    spec = Heads(plan).spec
    inputs = pretrain.Inputs(plan, _part(pool, plan), spec)
    torch.manual_seed(0)
    first, second = (inputs.batch(torch.tensor([3, 3, 5]), torch.device("cpu")) for _ in range(2))
    spec.check(first)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)


def test_speed_is_that_of_interpolation_in_time(pool: Pool) -> None:
    frames = torch.from_numpy(np.array(pool.shards[0][:6, :, 20:24, 20:24])).float()
    torch.manual_seed(1)
    warped = pretrain.warped(frames)
    torch.manual_seed(1)
    speeds = 0.75 + 0.5 * torch.rand(6, 1).double().flatten().numpy()
    assert speeds.min() < 0.95
    assert speeds.max() > 1.05
    times = np.arange(20)
    for clip, speed, found in zip(frames.numpy(), speeds, warped.numpy(), strict=True):
        for row, column in np.ndindex(4, 4):
            expected = np.interp(speed * times, times, clip[:, row, column])  # which repeats the last frame
            np.testing.assert_allclose(found[:, row, column], expected, atol=1e-3)


def test_speed_one_changes_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.from_numpy(np.array(pool.shards[0][:3])).float()
    monkeypatch.setattr(torch, "rand", lambda *shape, device: torch.full(shape, 0.5, device=device))
    assert torch.equal(pretrain.warped(frames), frames)


def test_noise_is_of_its_own_strength_in_each_clip() -> None:
    torch.manual_seed(0)
    spread = pretrain.noisy(torch.zeros(200, 40, 40), 1.5).flatten(1).std(dim=1)
    assert 0 < float(spread.min()) < 0.1
    assert 1.4 < float(spread.max()) < 1.65
    assert float(spread.mean()) == pytest.approx(0.75, abs=0.1)


# The order of clips, the rate, the loss


def test_hard_clips_are_left_out_of_the_first_quarter(pool: Pool) -> None:
    plan = replace(TINY["ststnet"], epochs=8, presets=("easy", "default", "hard"))
    mixed = replace(pool, presets=["easy", "default", "default", "hard"] * (CLIPS // 4))
    for epoch in range(8):
        batches = pretrain._batches(plan, mixed, epoch)
        positions = torch.cat(batches).tolist()
        assert {len(batch) for batch in batches} == {8}
        assert len(set(positions)) == len(positions) == (75 if epoch < 2 else 100) // 8 * 8
        assert ("hard" in {mixed.presets[i] for i in positions}) == (epoch >= 2)
    assert not torch.equal(pretrain._batches(plan, mixed, 0)[0], pretrain._batches(plan, mixed, 1)[0])
    only = torch.cat(pretrain._batches(replace(plan, presets=("default",)), mixed, 5)).tolist()
    assert {mixed.presets[i] for i in only} == {"default"}


def test_the_rate_goes_up_over_a_tenth_and_down_along_a_cosine() -> None:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)

    def rate(share: float) -> float:
        pretrain._set_rate(optimizer, 0.004, share)
        return float(optimizer.param_groups[0]["lr"])

    assert [rate(share) for share in (0, 0.025, 0.05, 0.1)] == pytest.approx([0, 0.001, 0.002, 0.004])
    assert rate(0.55) == pytest.approx(0.002)
    assert rate(0.1 + 0.9 / 3) == pytest.approx(0.004 * 0.75)  # (1 + cos 60°) / 2
    assert rate(1) == pytest.approx(0)


def test_unknown_targets_are_left_out_of_the_loss() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 3, requires_grad=True)
    target = torch.tensor([0, UNKNOWN, 2, UNKNOWN, 1, 1])
    naive = [
        math.log(sum(math.exp(v) for v in row)) - row[t]
        for row, t in zip(logits.tolist(), target.tolist(), strict=True)
        if t != UNKNOWN
    ]
    loss = pretrain._loss(logits, target)
    loss.backward()
    assert loss.item() == pytest.approx(sum(naive) / 4, rel=1e-5)
    assert logits.grad is not None
    assert logits.grad.abs().sum(dim=1).gt(0).tolist() == [t != UNKNOWN for t in target.tolist()]


def test_the_loss_is_nought_where_no_target_is_known() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = pretrain._loss(logits, torch.full((4,), UNKNOWN))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_loss_of_units_is_a_mean_over_all_of_them() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(5, 12), torch.randint(0, 2, (5, 12))
    naive = [
        math.log1p(math.exp(-v if t else v))
        for row, truth in zip(logits.tolist(), target.tolist(), strict=True)
        for v, t in zip(row, truth, strict=True)
    ]
    assert pretrain._loss(logits, target).item() == pytest.approx(sum(naive) / 60, rel=1e-5)


# Training


class StoppedError(Exception):
    """The run was killed."""


@pytest.fixture(scope="module")
def whole(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Heads]]:
    """Runs that nothing stopped, by network."""
    runs = {name: tmp_path_factory.mktemp(name) for name in TINY}
    return {name: (folder, train(TINY[name], _part(pool, TINY[name]), folder)) for name, folder in runs.items()}


def _weights(heads: Heads) -> Iterator[tuple[str, Tensor]]:
    return iter(heads.state_dict().items())


@networks
def test_a_run_that_was_stopped_gives_the_same_weights(
    name: str,
    pool: Pool,
    whole: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan, step, steps = TINY[name], pretrain._step, []

    def stopping(*args: Any) -> float:
        steps.append(1)
        if len(steps) == 2 * len(batches) - 2:  # within the second epoch
            raise StoppedError
        return step(*args)

    part = _part(pool, plan)
    batches = pretrain._batches(plan, part, 0)
    monkeypatch.setattr(pretrain, "_step", stopping)
    with pytest.raises(StoppedError):
        train(plan, part, tmp_path)
    monkeypatch.setattr(pretrain, "_step", step)
    torch.rand(5)  # the state of the generator is not what it was
    capsys.readouterr()
    heads = train(plan, part, tmp_path)
    said = capsys.readouterr().out
    assert "epoch 1 of 3" not in said
    assert "epoch 2 of 3" in said
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(_weights(heads), _weights(whole[name][1]), strict=True))
    assert not list(tmp_path.glob("*.tmp"))


@networks
def test_a_finished_run_is_not_trained_again(
    name: str, pool: Pool, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, heads = whole[name]
    before = (folder / "state.safetensors").read_bytes()
    again = train(TINY[name], _part(pool, TINY[name]), folder)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(_weights(heads), _weights(again), strict=True))
    assert (folder / "state.safetensors").read_bytes() == before
    assert not capsys.readouterr().out
    assert not again.training


def test_another_plan_in_the_same_folder_is_refused(pool: Pool, whole: Any) -> None:
    folder, _ = whole["ststnet"]
    before = (folder / "state.safetensors").read_bytes()
    for change in ({"lr": 1e-3}, {"seed": 1}, {"epochs": 4}, {"options": {"drop_rate": 0.1}}, {"families": ("head",)}):
        with pytest.raises(SystemExit, match=r"holds a run of another plan: .* by --out\."):
            train(replace(TINY["ststnet"], **change), pool, folder)
    assert (folder / "state.safetensors").read_bytes() == before


def test_another_seed_gives_other_weights(pool: Pool, whole: Any, tmp_path: Path) -> None:
    other = train(replace(TINY["ststnet"], seed=1, epochs=1), pool, tmp_path)
    assert not any(
        torch.equal(a, b)
        for (_, a), (_, b) in zip(_weights(other), _weights(whole["ststnet"][1]), strict=True)
        if a.ndim > 1
    )


def test_every_step_has_its_rate_and_all_weights_move(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, step, rates = TINY["ststnet"], pretrain._step, list[float]()

    def recording(model: Any, optimizer: Any, *rest: Any) -> float:
        rates.append(optimizer.param_groups[0]["lr"])
        return step(model, optimizer, *rest)

    monkeypatch.setattr(pretrain, "_step", recording)
    heads = train(plan, pool, tmp_path)
    steps = 3 * (CLIPS // 8)
    assert len(rates) == steps
    top = rates.index(max(rates))
    assert top == math.ceil(steps / 10)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(plan.lr, rel=0.01)
    torch.manual_seed(plan.seed)
    fresh = Heads(plan)
    moved = {name: not torch.equal(value, dict(_weights(fresh))[name]) for name, value in _weights(heads)}
    assert all(moved.values()), moved


def test_what_is_kept_is_a_moving_average(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the weights after each step, begun with those after the first, here over a quarter of 24 steps."""
    plan = replace(TINY["ststnet"], average=0.25, epochs=2)
    after: list[Tensor] = []
    step = pretrain._step

    def recorded(model: Heads, *args: Any) -> float:
        loss = step(model, *args)
        after.append(model.get_parameter("heads.3.weight").detach().clone())
        return loss

    monkeypatch.setattr(pretrain, "_step", recorded)
    heads = train(plan, pool, tmp_path)
    decay, expected = 1 - 1 / (0.25 * len(after)), after[0]
    for weights in after[1:]:
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(heads.get_parameter("heads.3.weight"), expected)


def test_no_average_over_one_step_is_the_last_weights(pool: Pool, tmp_path: Path) -> None:
    heads = train(replace(TINY["ststnet"], average=0.0, epochs=1), pool, tmp_path)
    state = load_file(tmp_path / "state.safetensors")
    assert all(torch.equal(value, state[f"model.{name}"]) for name, value in _weights(heads))


# The finished network


@networks
@pytest.mark.parametrize("task", ["3", "5", "au"])
@torch.no_grad()
def test_a_finished_network_says_what_its_head_said(name: str, task: str, pool: Pool, whole: Any) -> None:
    heads = whole[name][1]
    model = finished(heads, TINY[name], pool, task)
    x = torch.rand(3, *heads.spec.shape) * (heads.spec.high - heads.spec.low) + heads.spec.low
    torch.testing.assert_close(model(x), heads.eval()(x)[task], rtol=0, atol=0)
    assert mer_zoo.input_spec(model) == heads.spec
    assert list(model.classes) == list(mer_zoo.get_protocol(f"synthetic-{task}").classes)


def test_a_finished_network_is_kept_from_every_person_it_has_seen(
    pool: Pool, whole: Any, samples: list[Sample]
) -> None:
    model = finished(whole["ststnet"][1], TINY["ststnet"], pool, "3")
    for person in sorted({s.person for s in samples}):
        with pytest.raises(LeakError, match="have seen 1 of the persons"):
            check_seen(model, [s for s in samples if s.person == person])
    for preset, family in (("default", "head"), ("default", "field"), ("hard", "head")):
        tested: Any = mer_zoo.open_corpus(
            "synthetic", subjects=60, clips_per_subject=1, seed=gates.TEST_SEED, preset=preset, family=family
        )
        check_seen(model, tested.samples)


def test_the_last_shard_of_the_largest_plan_is_known_to_the_guards() -> None:
    largest = max(plan.clips for plan in PLANS.values())
    model: Any = mer_zoo.create_model("ststnet")
    model.saved_facts = {"trained_on": [f"synthetic/{clip_pool.SEEN}-*"]}
    last = Shard(-(-largest // 27) - 1).knobs["seed"]
    corpus: Any = mer_zoo.open_corpus("synthetic", subjects=3, clips_per_subject=1, seed=last)
    with pytest.raises(LeakError, match="have seen 3 of the persons"):
        check_seen(model, corpus.samples)


# The gates


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    target, pred = rng.integers(0, 5, (2, 200))
    assert gates.score(pred, target) == pytest.approx(
        {
            "UF1": f1_score(target, pred, average="macro"),
            "UAR": balanced_accuracy_score(target, pred),
            "accuracy": accuracy_score(target, pred),
        }
    )


def test_scores_of_units_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    target, pred = rng.integers(0, 2, (2, 50, 12))
    assert gates.score(pred, target) == pytest.approx(
        {"mean F1": f1_score(target, pred, average="macro"), "accuracy": float((target == pred).mean())}
    )


def test_the_majority_is_what_a_count_says() -> None:
    said = gates.simple(np.array([1] * 6 + [0] * 3 + [2]))
    assert said["majority"] == pytest.approx({"UF1": 2 * 6 / (6 + 10) / 3, "UAR": 1 / 3, "accuracy": 0.6})
    assert said["chance"]["UAR"] == pytest.approx(1 / 3, abs=0.05)


def test_every_unit_always_is_what_a_count_says() -> None:
    target = np.array([[1, 0], [1, 1], [1, 0], [0, 0]])
    said = gates.simple(target)
    assert said["every unit always"] == pytest.approx({"mean F1": (6 / 7 + 2 / 5) / 2, "accuracy": 0.5})
    assert said["chance"]["accuracy"] == pytest.approx(0.5, abs=0.05)


@pytest.fixture(scope="module")
def release(flow_release: Path) -> ClipDataset:
    return mer_zoo.create_dataset("megc2019", {"megc2019_flow": flow_release}, mer_zoo.input_spec("ststnet"))


def test_five_classes_are_merged_by_what_they_count_as(release: ClipDataset, whole: Any, pool: Pool) -> None:
    model = finished(whole["ststnet"][1], TINY["ststnet"], pool, "5")
    merged = gates._merged(model, "5", release)
    with torch.no_grad():
        shares = model(torch.from_numpy(np.array(release.inputs))).softmax(dim=1).tolist()
    naive = [int(np.argmax([d + r + o, h, s])) for h, s, d, r, o in shares]
    assert merged.tolist() == naive
    assert release.classes == ("negative", "positive", "surprise")


def test_nobody_is_tested_who_was_tuned_on(release: ClipDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt, tested = list[set[str]](), list[str]()

    def fitting(model: Any, data: ClipDataset, recipe: Any) -> Any:
        learnt.append(set(data.persons))
        return fit(model, data, recipe)

    def predicting(model: Any, data: ClipDataset) -> Tensor:
        assert not learnt[-1] & set(data.persons)
        tested.extend(s.key for s in data.samples)
        return predict(model, data)

    monkeypatch.setattr(gates, "fit", fitting)
    monkeypatch.setattr(gates, "predict", predicting)
    gates.tuned(lambda: mer_zoo.create_model("ststnet"), release, 3, mer_zoo.Recipe(epochs=1))
    assert sorted(tested) == sorted(s.key for s in release.samples)
    assert [len(persons) for persons in learnt] == [3] * 5


# The ablation


@pytest.mark.parametrize("name", [name for name in ablate.ROWS if name != "base"])
def test_a_row_of_the_ablation_changes_one_thing_of_another(name: str) -> None:
    plans = {row: asdict(plan) for row, (_, plan) in ablate.ROWS.items()}
    changed = {
        other: {key for key in plans[name] if plans[name][key] != plans[other][key]}
        for other in ("base", "float32", "10800")
        if other != name
    }
    assert min(map(len, changed.values())) == 1, changed


def test_the_table_says_mean_and_deviation(tmp_path: Path) -> None:
    (tmp_path / "ablation").mkdir()
    for seed, uf1 in enumerate((0.8, 0.9, 1.0)):
        scores = dict.fromkeys(gates.TESTS, uf1)
        (tmp_path / "ablation" / f"raw-seed{seed}.json").write_text(json.dumps(scores))
    *_, row = ablate.table(["raw"], [0, 1, 2], tmp_path)
    assert row == "| raw frames, -1 to 1 | 0.900 ± 0.100 | 0.900 ± 0.100 |"
    *_, row = ablate.table(["raw"], [1], tmp_path)
    assert row == "| raw frames, -1 to 1 | 0.900 | 0.900 |"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four new persons instead of sixty."""
    monkeypatch.setattr(gates, "PERSONS", 4)


@pytest.mark.usefixtures("few")
def test_a_row_alone_is_trained_scored_and_kept(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row of all clips is the shipped run, which lies in no folder of the ablation."""
    monkeypatch.setitem(PLANS, "ststnet", replace(TINY["ststnet"], epochs=1))
    monkeypatch.setitem(ablate.ROWS, "all", ("all clips", PLANS["ststnet"]))
    shutil.copytree(rendered, tmp_path / "clips")
    ablate.run("all", 1, tmp_path)
    scores = json.loads((tmp_path / "ablation" / "all-seed1.json").read_text())
    assert set(scores) == {"default-head", "default-field"}
    assert all(0 < uf1 < 1 for uf1 in scores.values())
    assert (tmp_path / "ststnet-seed1" / "state.safetensors").exists()
    capsys.readouterr()
    ablate.run("all", 1, tmp_path)
    assert not capsys.readouterr().out


# Shipping


@pytest.fixture(scope="module")
def cooked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cooked")


def _constant(bias: list[float]) -> Any:
    """A network that says the same of every clip."""
    model: Any = mer_zoo.create_model("ststnet", num_classes=3)
    torch.nn.init.zeros_(model.fc.weight)
    model.fc.bias.data = torch.tensor(bias)
    model.input_spec = replace(model.input_spec, flow_method="dis")
    return model


@pytest.mark.usefixtures("few")
def test_weights_are_halved_where_no_answer_changes(cooked: Path) -> None:
    dtype, said = ship.smallest(_constant([0.0, 1.0, 0.5]), "3", cooked)
    assert dtype == torch.float16
    assert said == "Stored as float16: no answer on 36 clips changes, probabilities by 0.0e+00 at most."


@pytest.mark.usefixtures("few")
def test_weights_stay_whole_where_an_answer_changes(cooked: Path) -> None:
    """Half precision knows no number between 1 and 1.00098, so that the first class wins."""
    dtype, said = ship.smallest(_constant([1.0, 1.0001, 0.0]), "3", cooked)
    assert dtype == torch.float32
    assert said.startswith("Stored as float32: float16 would change answers, probabilities by up to ")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder as a model is saved in."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"w" * 2000)
    (folder / "config.json").write_text("{}")
    return folder


def _files(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_small_weights_are_three_files_in_the_package(made: Path, tmp_path: Path) -> None:
    said = ship.place(made, "card", "ststnet.synth_3", tmp_path / "package", tmp_path / "out")
    assert _files(tmp_path / "package") == {
        "ststnet.synth_3.safetensors": "w" * 2000,
        "ststnet.synth_3.json": "{}",
        "ststnet.synth_3.md": "card",
    }
    assert said == f"ststnet.synth_3: 2 kB in {tmp_path / 'package'}"
    assert not (tmp_path / "out").exists()


def test_large_weights_are_a_folder_outside_and_a_tag_in_the_package(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "LARGEST", 1999)
    line = ship.place(made, "card", "ststnet.synth_3", tmp_path / "package", tmp_path / "out")
    assert _files(tmp_path / "out") == {
        "ststnet.synth_3/model.safetensors": "w" * 2000,
        "ststnet.synth_3/config.json": "{}",
        "ststnet.synth_3/README.md": "card",
    }
    assert "too large for the package" in line
    assert _files(tmp_path / "package") == {"ststnet.synth_3.json": "{}", "ststnet.synth_3.md": "card"}


# All of it


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_from_nothing_to_weights_that_load(rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretraining, gates and shipping by their own command lines; real flow is that of a specimen."""
    monkeypatch.setitem(PLANS, "ststnet", replace(TINY["ststnet"], epochs=1))
    monkeypatch.setattr(gates, "TUNING", mer_zoo.Recipe(epochs=1))
    monkeypatch.setattr(gates, "RATES", (1e-3,))
    monkeypatch.setattr(gates, "MORE", {})
    MEGC2019Flow.write_specimen(tmp_path / "flow")
    out = tmp_path / "out"
    shutil.copytree(rendered, out / "clips")
    for tool, *options in (
        (pretrain, "ststnet.synth_3", "--device", "cpu"),
        (gates, "ststnet", "--tasks", "3", "--flow", str(tmp_path / "flow")),
        (ship, "ststnet.synth_3", "--to", str(tmp_path / "package")),
    ):
        monkeypatch.setattr(sys, "argv", ["", *options, "--out", str(out)])
        tool.main()
    measured = json.loads((out / "ststnet.synth_3.json").read_text())
    assert [len(r["scores"]["UF1"]) for r in measured["tests"]] == [3] * 5  # two rendered, three real
    assert [len(r["scores"]["UF1"]) for r in measured["tuning"]] == [3] * 6  # numbers of persons by starts
    assert {p.name for p in (tmp_path / "package").iterdir()} == {
        f"ststnet.synth_3.{suffix}" for suffix in ("safetensors", "json", "md")
    }
    card = (tmp_path / "package" / "ststnet.synth_3.md").read_text()
    for r in (*measured["tests"], *measured["tuning"]):
        assert r["tested"] in card
        assert f"{np.mean(r['scores']['UF1']):.3f} ± {np.std(r['scores']['UF1'], ddof=1):.3f}" in card
    assert "Seed 0, settled beforehand." in card
    model = _loaded(tmp_path / "package", tmp_path / "folder")
    assert model.classes == ("negative", "positive", "surprise")
    assert model.input_spec.flow_method == "dis"
    kept = load_file(out / "ststnet-seed0" / "state.safetensors")
    torch.testing.assert_close(model.fc.weight.detach(), kept["average.module.heads.3.weight"], rtol=1e-3, atol=1e-4)


def _loaded(package: Path, folder: Path) -> Any:
    folder.mkdir()
    for suffix, name in (("safetensors", "model.safetensors"), ("json", "config.json")):
        shutil.copy(package / f"ststnet.synth_3.{suffix}", folder / name)
    return mer_zoo.create_model(f"local-dir:{folder}", pretrained=True)
