"""The loop: that it learns, repeats itself, mirrors flow rightly, and splits batches over processes."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

import mer_zoo
from mer_zoo import augmentation
from mer_zoo.augmentation import Augmentation, mirror
from mer_zoo.bf16 import whole_kernels
from mer_zoo.datasets import Corpus
from mer_zoo.errors import InputError, MerZooError
from mer_zoo.preprocessing.flow import flow_image
from mer_zoo.recipe import Recipe
from mer_zoo.training import ClipDataset, batches, fit, predict
from mer_zoo.types import InputSpec

SPEC = mer_zoo.input_spec("ststnet")


@pytest.fixture(scope="module")
def data(persons: Corpus) -> ClipDataset:
    return mer_zoo.create_dataset("synthetic-3", {"synthetic_flow": persons}, SPEC)


def build(seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return mer_zoo.create_model("ststnet", **options)


def test_items_are_input_class_and_position(data: ClipDataset) -> None:
    x, y, position = data[5]
    assert x.shape == SPEC.shape
    assert (y, position) == (data.targets[5], 5)
    assert len(data) == len(data.samples) == len(data.targets) == len(data.persons) == 24
    assert next(iter(torch.utils.data.DataLoader(data, batch_size=4)))[0].shape == (4, *SPEC.shape)


def test_inputs_come_in_the_order_of_the_spec(data: ClipDataset, persons: Corpus) -> None:
    image = persons.flow_image(data.samples[0])  # u, v, strain
    np.testing.assert_array_equal(data.inputs[0], image[..., ::-1].transpose(2, 0, 1))  # strain, v, u


def test_a_subset_keeps_clip_and_class_together(data: ClipDataset) -> None:
    chosen = [data.samples[i] for i in (7, 2, 19)]
    part = data.subset(chosen)
    assert part.samples == chosen
    assert part.targets == [data.targets[i] for i in (7, 2, 19)]
    np.testing.assert_array_equal(part.inputs, data.inputs[[7, 2, 19]])


def test_persons_can_be_chosen(persons: Corpus) -> None:
    person = persons.samples[-1].person
    part = mer_zoo.create_dataset("synthetic-3", {"synthetic_flow": persons}, SPEC, persons=[person])
    assert set(part.persons) == {person}
    with pytest.raises(InputError, match=r"no clip of \['smic/s99'\]"):
        mer_zoo.create_dataset("synthetic-3", {"synthetic_flow": persons}, SPEC, persons=[person, "smic/s99"])


def test_an_item_can_be_augmented(persons: Corpus) -> None:
    roots = {"synthetic_flow": persons}
    plain, dark = (mer_zoo.create_dataset("synthetic-3", roots, SPEC, augment=f) for f in (None, torch.zeros_like))
    assert plain[0][0].any()
    assert not dark[0][0].any()


def test_an_augmentation_of_the_data_reaches_fit(persons: Corpus) -> None:
    seen: list[torch.Size] = []

    def note(clip: Tensor) -> Tensor:
        seen.append(clip.shape)
        return clip

    data = mer_zoo.create_dataset("synthetic-3", {"synthetic_flow": persons}, SPEC, augment=note)
    fit(build(), data, Recipe(epochs=2), device="cpu")
    assert seen == [torch.Size(SPEC.shape)] * 48


@pytest.mark.parametrize("change", [{"flip": True}, {"shift": 2}, {"balanced": True}, {"batch_size": 8}, {"lr": 1e-4}])
def test_every_setting_of_the_recipe_changes_training(change: dict[str, Any], data: ClipDataset) -> None:
    uneven = data.subset(data.samples[:10])
    plain, changed = (fit(build(), uneven, Recipe(epochs=2, **c), device="cpu") for c in ({}, change))
    assert plain != changed


def test_flow_of_a_network_without_a_spec_is_mirrored_rightly(
    data: ClipDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[InputSpec | None] = []

    def spy(batch: Tensor, spec: InputSpec | None) -> Tensor:
        specs.append(spec)
        return mirror(batch, spec)

    monkeypatch.setattr(augmentation, "mirror", spy)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 3))
    fit(plain, data, Recipe(epochs=1, flip=True, lr=1e-6), device="cpu")
    assert set(specs) == {SPEC}


def test_data_cooked_for_another_order_of_channels_are_refused(persons: Corpus) -> None:
    """The trap that costs 0.3 UF1."""
    spec = dataclasses.replace(SPEC, channels=("u", "v", "strain"))
    wrong = mer_zoo.create_dataset("synthetic-3", {"synthetic_flow": persons}, spec)
    for call in (lambda: fit(build(), wrong, Recipe(epochs=1)), lambda: predict(build(), wrong)):
        with pytest.raises(InputError, match=r"cooked for .*'u', 'v', 'strain'.*eats .*'strain', 'v', 'u'"):
            call()


def test_predict_leaves_an_accelerator_of_the_user_alone(data: ClipDataset) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    theirs = Accelerator(cpu=True, mixed_precision="bf16")
    predict(build(), data, device="cpu")
    assert theirs.mixed_precision == "bf16"
    fit(build(), data, Recipe(epochs=1, precision="bf16"), device="cpu")
    assert theirs.mixed_precision == "bf16"


def test_a_model_is_whole_after_an_error(data: ClipDataset) -> None:
    """Mixed precision patches a model's forward; it is put back even then."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 3))
    x = torch.from_numpy(data.inputs)
    before = model(x)
    with pytest.raises(InputError, match="gives 3 logits"):
        fit(model, (x, torch.full((24,), 5)), Recipe(epochs=1, precision="bf16"), device="cpu")
    assert torch.equal(model(x), before)


def test_it_learns_and_predicts_probabilities(data: ClipDataset) -> None:
    model = build()
    losses = fit(model, data, Recipe(epochs=40, lr=5e-3), device="cpu")
    assert len(losses) == 40
    assert losses[-1] < 0.5 * losses[0]
    probabilities = predict(model, data, batch_size=7, device="cpu")
    assert probabilities.shape == (24, 3)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(24))
    assert model.training  # as before
    assert (probabilities.argmax(dim=1) == torch.tensor(data.targets)).float().mean() > 0.8


def test_a_pair_of_tensors_trains_like_the_dataset(data: ClipDataset) -> None:
    pair = (torch.from_numpy(data.inputs), torch.tensor(data.targets))
    losses = [fit(build(), d, Recipe(epochs=2, flip=True, shift=2), device="cpu") for d in (data, pair)]
    assert losses[0] == losses[1]


def test_the_same_seed_repeats_and_another_does_not(data: ClipDataset) -> None:
    runs = [fit(build(), data, Recipe(epochs=2, seed=seed), device="cpu") for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_fit_leaves_the_global_generator_alone(data: ClipDataset) -> None:
    model = build()
    before = torch.get_rng_state()
    fit(model, data, Recipe(epochs=1), device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_loop_is_the_textbook_one(optimizer: Any, schedule: Any, data: ClipDataset) -> None:
    """Against a loop written out by hand, one batch an epoch, without dropout."""
    recipe = Recipe(epochs=3, batch_size=24, lr=1e-3, optimizer=optimizer, schedule=schedule, weight_decay=0.01)
    ours, theirs = (build(drop_rate=0.0).double() for _ in range(2))
    x, y = torch.from_numpy(data.inputs).double(), torch.tensor(data.targets)
    losses = fit(ours, (x, y), recipe, device="cpu")
    steps: Any = {
        "adam": lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.01),
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01),
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-3, weight_decay=0.01, momentum=0.9, nesterov=True),
    }
    step = steps[optimizer](theirs.parameters())
    for epoch in range(3):
        rate = 1e-3 * (0.5 * (1 + np.cos(np.pi * epoch / 3)) if schedule == "cosine" else 1.0)
        step.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(theirs.train()(x), y)
        assert losses[epoch] == pytest.approx(loss.item(), abs=1e-6)
        step.zero_grad()
        loss.backward()
        step.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


def test_bf16_trains(data: ClipDataset) -> None:
    model = build()
    exact = fit(build(), data, Recipe(epochs=2), device="cpu")
    rough = fit(model, data, Recipe(epochs=2, precision="bf16"), device="cpu")
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.1)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert predict(model, data, device="cpu").dtype == torch.float32


def test_wrong_gradients_of_bf16_are_refused() -> None:
    """oneDNN's, of a kernel that is deeper than its map; float32 may learn there, and afterwards no guard is left."""
    x, y = torch.rand(8, 1, 2, 4, 4), torch.tensor([0, 1] * 4)
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(InputError, match=r"kernel of \(3, 3, 3\) looks at maps of \(2, 4, 4\).*precision 'no'"):
        fit(model, (x, y), Recipe(epochs=1, precision="bf16"), device="cpu")
    fit(model, (x, y), Recipe(epochs=1), device="cpu")
    assert not model[0]._forward_pre_hooks


@pytest.mark.parametrize("frames", [3, 4, 5, 8, 16])
@pytest.mark.parametrize("size", [3, 4, 8])
def test_gradients_of_bf16_that_are_not_refused_are_right(frames: int, size: int) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv3d(24, 12, 3, padding=1), torch.randn(16, 24, frames, size, size)
    with torch.autocast("cpu", torch.bfloat16), whole_kernels(layer, "bf16", x.device):
        rough = layer(x)
    toward = torch.randn_like(rough)
    (got,) = torch.autograd.grad(rough, layer.weight, toward)
    (want,) = torch.autograd.grad(layer(x), layer.weight, toward.float())
    assert (got - want).norm() < 0.02 * want.norm()


@pytest.mark.parametrize(("clips", "size", "sizes"), [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (3, 8, [3]), (1, 4, [1])])
def test_every_clip_once_and_no_batch_of_one(clips: int, size: int, sizes: list[int]) -> None:
    parts = list(batches(clips, size, torch.Generator().manual_seed(0), least=2))
    assert [len(p) for p in parts] == sizes
    assert sorted(torch.cat(parts).tolist()) == list(range(clips))


def test_mirroring_an_image_is_mirroring_its_flow() -> None:
    """The image of mirrored flow, u negated and then stretched, is what ``mirror`` makes of the image."""
    flow = np.random.default_rng(1).normal(size=(28, 28, 2)).astype(np.float32)
    mirrored = flow[:, ::-1] * [-1, 1]
    pair = [torch.from_numpy(flow_image(f)[..., ::-1].transpose(2, 0, 1).astype(np.float32)) for f in (flow, mirrored)]
    torch.testing.assert_close(mirror(pair[0][None], SPEC)[0], pair[1], rtol=0, atol=1.0)


def test_mirroring_flow_in_pixels_and_clips() -> None:
    pixels = InputSpec("flow", ("u", "v"), size=4, low=-3.0, high=3.0, flow_method="dis")
    flow = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(mirror(flow, pixels), flow.flip(-1) * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1))
    clip = torch.rand(2, 1, 5, 4, 4)
    assert torch.equal(mirror(clip, InputSpec("clip", ("grey",), size=4, frames=5)), clip.flip(-1))
    assert torch.equal(mirror(clip, None), clip.flip(-1))


def test_flips_take_half_of_the_clips() -> None:
    torch.manual_seed(0)
    batch = torch.rand(200, 3, 4, 4) * 255
    spec = InputSpec("flow", ("strain", "v", "u"), 4, high=255.0, scaling="channel_min_max", flow_method="tvl1")
    flipped = Augmentation(Recipe(flip=True), spec)(batch)
    same = (flipped == batch).flatten(1).all(dim=1)
    torch.testing.assert_close(flipped[~same], mirror(batch, spec)[~same])
    assert 70 < int(same.sum()) < 130


@pytest.mark.parametrize("shape", [(50, 3, 8, 8), (50, 1, 4, 8, 8)])
def test_shifts_move_whole_clips_and_repeat_edges(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    rows = torch.arange(8.0).view(8, 1).expand(8, 8)
    batch = (rows + 100 * rows.T).expand(shape)
    seen = set()
    for clip in Augmentation(Recipe(shift=2), None)(batch):
        plane = clip.flatten(0, -3)[0]
        assert all(torch.equal(frame, plane) for frame in clip.flatten(0, -3))
        dy, dx = int(plane[4, 4]) % 100 - 4, int(plane[4, 4]) // 100 - 4
        seen.add((dy, dx))
        expected = (torch.arange(8.0) + dy).clamp(0, 7).view(8, 1) + 100 * (torch.arange(8.0) + dx).clamp(0, 7)
        assert torch.equal(plane, expected)
    assert len(seen) > 15
    assert max(map(max, seen)) == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": -1}, "epochs is -1; expected a whole number, 1 or more"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"epochs": True}, "epochs is True"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"optimizer": "lion"}, "optimizer is 'lion'; expected one of"),
        ({"schedule": "step"}, "schedule is 'step'"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001"),
        ({"shift": -2}, "shift is -2"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"seed": -1}, "seed is -1"),
        ({"epochs": 0, "lr": -1}, "epochs is 0.*lr is -1"),
        ({"lr": "1e-3"}, "lr is '1e-3'"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"flip": "no"}, "flip is 'no'; expected True or False"),
        ({"seed": 2**70}, "seed is 1180591620717411303424"),
    ],
)
def test_recipe_refuses_nonsense(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Recipe(**values)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.rand(4, 3, 28, 28), torch.zeros(4, dtype=torch.long), "Do not divide by 255"),
        (torch.zeros(4, 1, 28, 28), torch.zeros(4, dtype=torch.long), r"expected \(B, 3, 28, 28\)"),
        (torch.zeros(4, 3, 28, 28), torch.zeros(3, dtype=torch.long), "4 inputs and class indices of shape"),
        (torch.zeros(4, 3, 28, 28), torch.zeros(4), "torch.float32; expected one whole number"),
        (torch.zeros(4, 3, 28, 28), torch.full((4,), -1), "0 or more"),
        (torch.zeros(0, 3, 28, 28), torch.zeros(0, dtype=torch.long), "There are no clips"),
        (torch.zeros(4, 3, 28, 28), torch.zeros(4, dtype=torch.bool), "torch.bool; expected one whole number"),
        (np.zeros((4, 3, 28, 28)), torch.zeros(4, dtype=torch.long), "a tuple; expected create_dataset's, or a pair"),
    ],
)
def test_fit_refuses_what_the_model_does_not_eat(x: Tensor, y: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit(build(), (x, y), Recipe(epochs=1), device="cpu")


def test_fewer_logits_than_classes_are_refused_and_more_are_not(data: ClipDataset) -> None:
    with pytest.raises(InputError, match="gives 2 logits; class index 2 needs more"):
        fit(build(num_classes=2), data, Recipe(epochs=1), device="cpu")
    assert predict(_fitted(build(num_classes=7), data), data, device="cpu").shape == (24, 7)


def _fitted(model: nn.Module, data: ClipDataset) -> nn.Module:
    fit(model, data, Recipe(epochs=1, balanced=True), device="cpu")
    return model


def test_bytes_and_short_integers_are_taken() -> None:
    x, y = torch.randint(256, (6, 3, 28, 28), dtype=torch.uint8), torch.tensor([0, 1, 2, 0, 1, 2], dtype=torch.int32)
    assert len(fit(build(), (x, y), Recipe(epochs=1), device="cpu")) == 1
    with pytest.raises(InputError, match="data is a Tensor"):
        predict(build(), x)  # type: ignore[arg-type]


def test_a_loss_that_is_no_number_is_an_error(data: ClipDataset) -> None:
    with pytest.raises(MerZooError, match=r"loss became nan; try a smaller lr"):
        fit(build(), data, Recipe(epochs=8, lr=1e38, optimizer="sgd"), device="cpu")


def test_devices_that_are_not_there(data: ClipDataset) -> None:
    with pytest.raises(InputError, match="device is 'tpu'"):
        fit(build(), data, Recipe(epochs=1), device="tpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fp16' needs a GPU"):
        fit(build(), data, Recipe(epochs=1, precision="fp16"), device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(data: ClipDataset) -> None:
    with pytest.raises(InputError, match="torch sees no GPU"):
        fit(build(), data, Recipe(epochs=1), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_it_learns_on_a_gpu(precision: Any, data: ClipDataset) -> None:
    losses = fit(build(), data, Recipe(epochs=20, lr=5e-3, precision=precision), device="cuda")
    assert losses[-1] < losses[0]


WORKER = """
import json, sys, torch
from mer_zoo.recipe import Recipe
from mer_zoo.training import fit
torch.manual_seed(0)
x, y = torch.randn(37, 6), torch.arange(37) % 3
model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
recipe = Recipe(epochs=4, batch_size=9, lr=1e-2, balanced=True, seed=5)
losses = fit(model, (x.double(), y), recipe, device="cpu")
rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
weights = [p.flatten().tolist() for p in model.parameters()]
open(f"{sys.argv[1]}/{rank}.json", "w").write(json.dumps([losses, weights]))
"""


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path: Path) -> None:
    """Batches of 9 over two processes, the last of one clip: the same losses and weights as alone, on both."""
    (tmp_path / "worker.py").write_text(WORKER)
    results = []
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2", *meeting]
    for launcher in ([], torchrun):
        out = tmp_path / str(len(launcher))
        out.mkdir()
        command = [sys.executable, *launcher, str(tmp_path / "worker.py"), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        results += [json.loads(file.read_text()) for file in sorted(out.glob("*.json"))]
    assert len(results) == 3
    for losses, weights in results[1:]:
        assert losses == pytest.approx(results[0][0], abs=1e-9)
        for ours, alone in zip(weights, results[0][1], strict=True):
            assert ours == pytest.approx(alone, abs=1e-9)
