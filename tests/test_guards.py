"""Ways to let a test clip be learnt from, each of which must raise; and honest ways beside them, which must not."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mer_zoo
from mer_zoo.augmentation import mirror
from mer_zoo.datasets import Corpus
from mer_zoo.datasets._base import CORPORA
from mer_zoo.datasets.synthetic_flow import SyntheticFlow
from mer_zoo.errors import LeakError
from mer_zoo.losses import loss_for
from mer_zoo.standardise import Standardise
from mer_zoo.training import ClipDataset
from mer_zoo.types import Fold, Sample

RECIPE = mer_zoo.Recipe(epochs=1)


class Flat(nn.Module):
    """Logits by one linear layer, after whatever stands before it."""

    def __init__(self, *before: nn.Module) -> None:
        super().__init__()
        self.before = nn.Sequential(*before)
        self.fc = nn.Linear(3 * 28 * 28, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.before(x).flatten(1))
        return logits


@pytest.fixture(scope="module")
def roots(persons: Corpus) -> dict[str, Corpus]:
    return {"synthetic_flow": persons}


@pytest.fixture(scope="module")
def data(roots: dict[str, Corpus]) -> ClipDataset:
    return mer_zoo.create_dataset("synthetic-3", roots, SyntheticFlow.native_spec)


def _evaluate(build: Any, roots: Any, **options: Any) -> Any:
    return mer_zoo.evaluate(build, options.pop("protocol", "synthetic-3"), roots, recipe=RECIPE, **options)


def test_a_person_on_both_sides(roots: dict[str, Corpus]) -> None:
    def by_clip(samples: Any) -> list[Fold]:
        return [Fold(f"half-{i}", tuple(samples[1 - i :: 2]), tuple(samples[i::2])) for i in (0, 1)]

    protocol = replace(mer_zoo.get_protocol("synthetic-3"), fold_maker=by_clip)
    with pytest.raises(LeakError, match="both sides"):
        _evaluate(Flat, roots, protocol=protocol)


def test_a_person_on_both_sides_under_two_names(tmp_path: Path) -> None:
    """SMIC and SMIC-E are of the same participants; leaving a corpus out would learn from them all."""
    for name in ("smic", "smic_e"):
        CORPORA.get(name).write_specimen(tmp_path / name)
    three = mer_zoo.get_protocol("smic-3")
    both = replace(
        three,
        counts={**three.counts, "smic_e": three.counts["smic"]},
        rules={},
        fold_maker=lambda samples: [
            Fold(c, tuple(s for s in samples if s.corpus != c), tuple(s for s in samples if s.corpus == c))
            for c in ("smic", "smic_e")
        ],
    )
    with pytest.raises(LeakError, match="both sides"):
        _evaluate("svm", {name: tmp_path / name for name in ("smic", "smic_e")}, protocol=both)


class _Copying(SyntheticFlow):
    """Gives the first clip of one person to the next person, too, changed or not."""

    def __init__(self, change: Any) -> None:
        super().__init__(subjects=4, clips_per_subject=6)
        self.change = change

    def flow_image(self, sample: Sample) -> Any:
        if sample.key != self.samples[6].key:
            return super().flow_image(sample)
        first = torch.tensor(super().flow_image(self.samples[0])).permute(2, 0, 1)
        return self.change(first[None].clone())[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda x: x, "the same pixels"),
        (lambda x: mirror(x, SyntheticFlow.native_spec), "mirrored"),
    ],
)
def test_a_copy_of_a_clip_on_the_other_side(change: Any, how: str) -> None:
    with pytest.raises(LeakError, match=rf"copies of clips that it is tested on: .* \(.*{how}"):
        _evaluate(Flat, {"synthetic_flow": _Copying(change)})


def test_statistics_of_all_clips(roots: dict[str, Corpus], data: ClipDataset) -> None:
    def knows_all() -> Flat:
        layer = Standardise(3)
        layer.learn(torch.tensor(data.inputs), (s.key for s in data.samples))
        return Flat(layer)

    def hides_whom() -> Flat:
        layer = Standardise(3)
        layer.learn(torch.tensor(data.inputs))
        return Flat(layer)

    with pytest.raises(LeakError, match=r"of 24 clips, 6 of them of persons whom fold '\S+' tests"):
        _evaluate(knows_all, roots)
    with pytest.raises(LeakError, match="of 24 clips and does not say of which"):
        _evaluate(hides_whom, roots)
    assert len(_evaluate(lambda: Flat(Standardise(3)), roots)) == 24


def test_statistics_are_those_of_the_training_part(data: ClipDataset) -> None:
    fold = mer_zoo.get_protocol("synthetic-3").folds(data.samples)[0]
    train, model = data.subset(fold.train), Flat(Standardise(3))
    mer_zoo.training.fit(model, train, RECIPE)
    layer = model.before[0]
    assert isinstance(layer, Standardise)
    np.testing.assert_allclose(layer.mean, train.inputs.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(layer.std, train.inputs.std(axis=(0, 2, 3)), rtol=1e-4)
    assert layer.learnt_from == {s.key for s in fold.train}


def test_class_weights_are_those_of_the_training_part(
    roots: dict[str, Corpus], data: ClipDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def spy(y: Tensor, balanced: bool) -> Any:
        seen.append(y.clone())
        return loss_for(y, balanced)

    monkeypatch.setattr("mer_zoo.training.loss_for", spy)
    table = mer_zoo.evaluate(Flat, "synthetic-3", roots, recipe=mer_zoo.Recipe(epochs=1, balanced=True))
    everything = np.bincount(data.targets, minlength=3)
    for y, (_, rows) in zip(seen, table.groupby("fold", sort=False), strict=True):
        np.testing.assert_array_equal(
            np.bincount(y, minlength=3), everything - np.bincount(rows["target"], minlength=3)
        )


@pytest.mark.parametrize("entry", ["synthetic_flow", "synthetic_flow/0-002", "synthetic_flow/0-*"])
def test_weights_that_say_they_have_seen_a_test_corpus(entry: str, roots: dict[str, Corpus], tmp_path: Path) -> None:
    mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path, trained_on=[entry])
    with pytest.raises(LeakError, match=r"have seen [14] of the persons that are tested"):
        _evaluate(f"local-dir:{tmp_path}", roots)


def test_weights_remember_whom_fit_showed_them(roots: dict[str, Corpus], tmp_path: Path) -> None:
    model = mer_zoo.create_model("ststnet")
    data = mer_zoo.create_dataset("synthetic-3", roots, mer_zoo.input_spec(model))
    mer_zoo.training.fit(model, data.subset(data.samples[:7]), RECIPE)
    mer_zoo.save_pretrained(model, tmp_path)
    for build in (f"local-dir:{tmp_path}", lambda: copy.deepcopy(model)):
        with pytest.raises(LeakError, match="have seen 2 of the persons that are tested"):
            _evaluate(build, roots)
    others = {"synthetic_flow": mer_zoo.open_corpus("synthetic_flow", subjects=3, clips_per_subject=6, seed=5)}
    assert len(_evaluate(f"local-dir:{tmp_path}", others)) == 18


def test_weights_cannot_hide_in_a_wrapper_or_a_bare_file(roots: dict[str, Corpus], tmp_path: Path) -> None:
    mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path, trained_on=["synthetic_flow"])

    def wrapped() -> nn.Module:
        loaded: Any = mer_zoo.create_model(f"local-dir:{tmp_path}", pretrained=True)
        model: Any = nn.Sequential(loaded)
        model.input_spec = loaded.input_spec
        return cast(nn.Module, model)

    def bare() -> nn.Module:
        return mer_zoo.create_model("ststnet", checkpoint_path=str(tmp_path / "model.safetensors"))

    for build in (wrapped, bare):
        with pytest.raises(LeakError, match="have seen 4 of the persons"):
            _evaluate(build, roots)


def test_a_part_remembers_what_the_whole_was_shown(roots: dict[str, Corpus]) -> None:
    part: Any = mer_zoo.create_model("ststnet")
    whole: Any = nn.Sequential(part)
    whole.input_spec = part.input_spec
    data = mer_zoo.create_dataset("synthetic-3", roots, part.input_spec, persons=["synthetic_flow/0-001"])
    mer_zoo.training.fit(whole, data, RECIPE)
    assert part.saved_facts["trained_on"] == ["synthetic_flow/0-001"]


def test_weights_fitted_on_bare_tensors_are_doubted(roots: dict[str, Corpus], caplog: pytest.LogCaptureFixture) -> None:
    model = mer_zoo.create_model("ststnet")
    mer_zoo.training.fit(model, (torch.rand(6, 3, 28, 28) * 255, torch.tensor([0, 1, 2] * 2)), RECIPE)
    _evaluate(lambda: copy.deepcopy(model), roots)
    assert "not known whose clips they have seen" in caplog.text


@pytest.mark.parametrize("seen", ["smic_e", "megc2019_flow", "smic/s3", "samm"])
def test_weights_that_have_seen_the_same_people_elsewhere(seen: str, flow_release: Path, tmp_path: Path) -> None:
    mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path, trained_on=[seen])
    with pytest.raises(LeakError, match="have seen"):
        _evaluate(f"local-dir:{tmp_path}", {"megc2019_flow": flow_release}, protocol="megc2019")


def test_weights_of_other_corpora_are_welcome(roots: dict[str, Corpus], tmp_path: Path) -> None:
    mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path, trained_on=["casme2", "synthetic/1-*"])
    assert _evaluate(f"local-dir:{tmp_path}", roots).attrs["run"]["trained_on"] == ["casme2", "synthetic/1-*"]


class _Normalised(SyntheticFlow):
    """Divides every image by the largest value of all: a number that no training part knows."""

    def __init__(self, says_so: bool = True) -> None:
        super().__init__(subjects=4, clips_per_subject=6)
        self.fitted_on = [s.key for s in self.samples] if says_so else ()

    def fingerprint(self, sample: Sample) -> str:
        return "normalised"


def test_inputs_cooked_with_something_of_the_test_part(tmp_path: Path) -> None:
    with pytest.raises(LeakError, match=r"cooked with parameters of 24 clips, 6 of them of persons whom"):
        _evaluate(Flat, {"synthetic_flow": _Normalised()})
    with pytest.raises(LeakError, match="cooked with parameters"):
        _evaluate(Flat, {"synthetic_flow": _Normalised()}, cache=tmp_path)
    with pytest.raises(LeakError, match="cooked with parameters"):  # the cache remembers what the corpus forgot
        _evaluate(Flat, {"synthetic_flow": _Normalised(says_so=False)}, cache=tmp_path)
    assert len(_evaluate(Flat, {"synthetic_flow": _Normalised(says_so=False)})) == 24


class _AlwaysTraining(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> "_AlwaysTraining":
        super().train(True)
        return self


class _Late(nn.BatchNorm2d):
    """Behaves until it has been trained."""

    def train(self, mode: bool = True) -> "_Late":
        trained = self.num_batches_tracked is not None and int(self.num_batches_tracked) > 0
        super().train(mode or trained)
        return self


class _Memory(nn.Module):
    """Keeps a running mean of what it sees, in eval, too, in a buffer that is not saved."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean(dim=(0, 2, 3))
        return x


class _Silent(Flat):
    """Says nothing before it is trained, so that its batch statistics do not show."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm2d(3, track_running_stats=False))
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)


def test_batch_statistics_that_show_only_after_training(roots: dict[str, Corpus]) -> None:
    with pytest.raises(LeakError, match="depends on the clips beside it"):
        _evaluate(_Silent, roots)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (_Memory, "Predicting changed before.0.mean"),
        (lambda: _AlwaysTraining(3), "Predicting changed before.0.running_mean"),
        (lambda: _Late(3), "Predicting changed before.0.running_mean"),
        (lambda: nn.BatchNorm2d(3, track_running_stats=False), "depends on the clips beside it"),
    ],
)
def test_batch_statistics_of_held_out_clips(layer: Any, words: str, roots: dict[str, Corpus]) -> None:
    with pytest.raises(LeakError, match=words):
        _evaluate(lambda: Flat(layer()), roots)
    assert len(_evaluate(lambda: Flat(nn.BatchNorm2d(3)), roots)) == 24


def test_a_leak_within_a_fold_stops_the_run_and_is_not_called_a_failed_fold(
    roots: dict[str, Corpus], tmp_path: Path
) -> None:
    with pytest.raises(LeakError):
        _evaluate(lambda: Flat(_Late(3)), roots, out=tmp_path)
    assert not list(tmp_path.glob("folds/*/*"))
    assert "LeakError" in (tmp_path / "log.txt").read_text()


def test_scrambled_test_clips_change_nothing_about_the_training() -> None:
    """The strongest test of all: what is learnt must be the same to the last bit whatever the test clips are.

    Pixels and labels of one person are others; the losses of the fold that leaves this person out stay what they were.
    """

    class Scrambled(SyntheticFlow):
        def flow_image(self, sample: Sample) -> Any:
            image = super().flow_image(sample)
            return image[:, ::-1, :].copy() if sample.subject == "0-000" else image

        def read(self) -> Any:
            for sample in super().read():
                yield replace(sample, emotion="surprise") if sample.subject == "0-000" else sample

    def build() -> Flat:
        return Flat(Standardise(3), nn.BatchNorm2d(3))

    def losses(corpus: Corpus, selection: str) -> Any:
        recipe = mer_zoo.Recipe(epochs=2, balanced=True)
        table = mer_zoo.evaluate(build, "synthetic-3", {"synthetic_flow": corpus}, recipe=recipe, selection=selection)
        return table.attrs["losses"]

    for selection in ("last", "nested"):
        there = losses(mer_zoo.open_corpus("synthetic_flow", subjects=4, clips_per_subject=6), selection)
        changed = losses(Scrambled(subjects=4, clips_per_subject=6), selection)
        assert changed["synthetic_flow/0-000"] == there["synthetic_flow/0-000"]
        assert changed["synthetic_flow/0-001"] != there["synthetic_flow/0-001"]
