"""The weights in the package, and what is made sure of before any weights are believed."""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import mer_zoo
from mer_zoo.errors import InputError, WeightsError
from mer_zoo.models import _weights
from mer_zoo.models._weights import SHIPPED

SHIPPED_NAMES = sorted(file.stem for file in SHIPPED.glob("*.safetensors"))
every_weight = pytest.mark.parametrize("name", SHIPPED_NAMES)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a small model."""
    torch.manual_seed(0)
    return mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path / "m", classes=("a", "b", "c"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 48}, r"built for size 64, and its input_spec says size 48; build it with size=48\."),
        (
            {"frames": 9, "size": 48},
            r"frames 18, size 64, and .* frames 9, size 48; build it with num_frames=9, size=48",
        ),
    ],
)
def test_a_model_with_a_spec_that_it_was_not_built_for_is_not_saved(
    changes: dict[str, int], said: str, tmp_path: Path
) -> None:
    model: Any = mer_zoo.create_model("micro_exp_stcnn")
    model.input_spec = dataclasses.replace(model.input_spec, **changes)
    with pytest.raises(InputError, match=said):
        mer_zoo.save_pretrained(model, tmp_path / "m")


def _clips(model: torch.nn.Module, number: int = 2) -> torch.Tensor:
    spec = mer_zoo.input_spec(model)
    return spec.low + (spec.high - spec.low) * torch.rand(number, *spec.shape)


def _edited(folder: Path, **changes: Any) -> None:
    """Write tensors anew, as if the configuration did not know their hash."""
    file = folder / "model.safetensors"
    save_file({**load_file(file), **changes}, file)
    config = json.loads((folder / "config.json").read_text())
    del config["mer_zoo"]["sha256"]
    (folder / "config.json").write_text(json.dumps(config))


def test_the_sentence_by_which_the_library_is_known() -> None:
    """In a fresh process, with the Hub out of reach: weights, class names, and what they eat."""
    code = (
        "import mer_zoo, torch\n"
        "for name, kind in (('dat_densenet3d', 'difference'), ('ststnet', 'flow')):\n"
        "    model = mer_zoo.create_model(name, pretrained=True).eval()\n"
        "    spec = mer_zoo.input_spec(model)\n"
        "    assert spec.kind == kind and model.classes == ('negative', 'positive', 'surprise')\n"
        "    assert model(torch.zeros(1, *spec.shape)).shape == (1, 3)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_both_networks_have_three_tags_each() -> None:
    tags = {f"{name}.synth_{task}" for name in ("dat_densenet3d", "ststnet") for task in ("3", "5", "au")}
    assert set(mer_zoo.list_models(pretrained=True)) == tags == set(SHIPPED_NAMES)


def test_they_weigh_little() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 3_000_000


@every_weight
def test_a_tag_brings_its_classes_and_what_it_eats(name: str) -> None:
    model: Any = mer_zoo.create_model(name, pretrained=True).eval()
    protocol = mer_zoo.get_protocol(f"synthetic-{name.rpartition('_')[2]}")
    assert model.classes == protocol.classes
    assert model.pretrained_cfg["label_names"] == list(protocol.classes)
    assert model.pretrained_cfg["hf_hub_id"] == f"mer-zoo/{name}"
    assert mer_zoo.input_spec(model) == mer_zoo.input_spec(name)
    assert model(_clips(model)).shape == (2, len(protocol.classes))


@every_weight
def test_weights_say_that_they_have_seen_nobody_real(name: str) -> None:
    model: Any = mer_zoo.create_model(name, pretrained=True)
    assert model.saved_facts["trained_on"]
    assert all(person.startswith("synthetic/") for person in model.saved_facts["trained_on"])
    fresh: Any = mer_zoo.create_model(name)
    assert "trained_on" not in fresh.saved_facts, "fresh weights have seen nobody"


@every_weight
def test_timm_gives_the_same(name: str) -> None:
    ours, theirs = mer_zoo.create_model(name, pretrained=True).eval(), timm.create_model(name, pretrained=True).eval()
    x = _clips(ours)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


@every_weight
def test_other_classes_keep_what_was_learnt(name: str) -> None:
    original: Any = mer_zoo.create_model(name, pretrained=True)
    other: Any = mer_zoo.create_model(name, pretrained=True, num_classes=7)
    assert (other.num_classes, other.classes) == (7, ())
    first = next(name for name, _ in original.named_parameters())
    assert torch.equal(other.get_parameter(first), original.get_parameter(first))


@every_weight
def test_a_card_stands_beside_it(name: str) -> None:
    card: Any = ModelCard((SHIPPED / f"{name}.md").read_text(encoding="utf-8"))
    assert card.data.library_name == "mer-zoo"
    for words in (name, "No picture of a real person", "AI Act", "Article 5(1)(f)", "initialisation", "chance 0."):
        assert words.lower() in card.text.lower(), words
    assert ("Not evaluated on real micro-expressions" in card.text) != ("ststnet" in name)


@pytest.mark.parametrize(
    ("name", "test", "least"),
    [
        ("dat_densenet3d.synth_3", "new persons, units by MiE-X's table", 0.92),
        ("dat_densenet3d.synth_3", "new persons, family field:", 0.80),
        ("ststnet.synth_3", "zero-shot: 40 real persons, 309 clips", 0.72),
    ],
)
def test_gates_for_weights_to_ship(name: str, test: str, least: float) -> None:
    """UF1 of the shipped file, as its card says."""
    card: Any = ModelCard((SHIPPED / f"{name}.md").read_text(encoding="utf-8"))
    found = [
        e.metric_value for e in card.data.eval_results if e.metric_name == "UF1" and e.dataset_split.startswith(test)
    ]
    assert len(found) == 1
    assert found[0] >= least


@pytest.mark.parametrize(("task", "least"), [("3", 0.75), ("5", 0.5)])
@pytest.mark.parametrize("model", ["dat_densenet3d", "ststnet"])
def test_new_rendered_persons_are_told_apart(model: str, task: str, least: float) -> None:
    """Far above chance, 0.33 and 0.2, on 60 clips of persons whom no weight has seen; the cards give the figures."""
    network = mer_zoo.create_model(f"{model}.synth_{task}", pretrained=True)
    persons = mer_zoo.open_corpus("synthetic", subjects=6, clips_per_subject=10, seed=77, classes=int(task))
    data = mer_zoo.create_dataset(f"synthetic-{task}", {"synthetic": persons}, mer_zoo.input_spec(network))
    right = mer_zoo.training.predict(network, data).argmax(dim=1) == torch.tensor(data.targets)
    assert right.float().mean() >= least


def test_a_hash_that_is_not_the_files_is_refused(saved: Path) -> None:
    file = saved / "model.safetensors"
    state = load_file(file)
    state["fc.bias"] += 1e-6
    save_file(state, file)
    with pytest.raises(
        WeightsError, match=r"model\.safetensors is not the file that .*config\.json describes: its sha256"
    ):
        mer_zoo.create_model(f"local-dir:{saved}", pretrained=True)


@pytest.mark.parametrize("classes", [3, 5])
def test_a_network_that_answers_its_probe_otherwise_is_refused(classes: int, saved: Path) -> None:
    _edited(saved, **{"conv1.bias": load_file(saved / "model.safetensors")["conv1.bias"] + 0.5})
    with pytest.raises(WeightsError, match=r"model\.safetensors: the network answers its probe otherwise"):
        mer_zoo.create_model(f"local-dir:{saved}", pretrained=True, num_classes=classes)


def test_a_network_made_for_other_channels_is_not_asked(saved: Path) -> None:
    model: Any = mer_zoo.create_model(f"local-dir:{saved}", pretrained=True, in_chans=1)
    assert model.in_chans == 1


@pytest.mark.parametrize("length", [0, 5, 1000, -1])
def test_half_a_file_is_refused(length: int, saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(WeightsError, match=r"model\.safetensors is no whole safetensors file"):
        mer_zoo.create_model(f"local-dir:{saved}", pretrained=True)
    with pytest.raises(WeightsError, match="is no whole safetensors file"):
        mer_zoo.create_model("ststnet", checkpoint_path=str(file))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"absent is not there; expected a folder written by mer_zoo\.save_pretrained"
    ):
        mer_zoo.create_model(f"local-dir:{tmp_path / 'absent'}")
    (saved / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="is no configuration of a model"):
        mer_zoo.create_model(f"local-dir:{saved}")
    (saved / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        mer_zoo.create_model(f"local-dir:{saved}", pretrained=True)


def test_weights_that_are_not_in_the_folder(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="is not there; weights come as safetensors only"):
        mer_zoo.create_model(f"local-dir:{saved}", pretrained=True)


def test_a_checkpoint_of_another_network_is_named_key_by_key(saved: Path) -> None:
    with pytest.raises(InputError, match=r"not the weights of this DATDenseNet3d") as caught:
        mer_zoo.create_model("dat_densenet3d_se", checkpoint_path=str(saved / "model.safetensors"))
    said = str(caught.value)
    assert "missing: stem.conv.weight" in said
    assert "unexpected: " in said
    assert "bn1.weight" in said
    missing = said.partition("missing: ")[2].partition(", …")[0].split(", ")
    assert len(missing) == 10


def test_a_checkpoint_of_another_number_of_classes_says_how_to_adapt(saved: Path) -> None:
    with pytest.raises(InputError, match=r"for 3 classes, the model has 5\..*reset_classifier\(5\)"):
        mer_zoo.create_model("ststnet", num_classes=5, checkpoint_path=str(saved / "model.safetensors"))


def test_a_checkpoint_of_other_shapes_names_them(saved: Path) -> None:
    file = saved / "model.safetensors"
    with pytest.raises(InputError, match=r"of another shape: conv1\.weight \(3, 3, 3, 3\), expected \(3, 1, 3, 3\)"):
        mer_zoo.create_model("ststnet", in_chans=1, checkpoint_path=str(file))


def test_a_probe_does_not_disturb_loading_by_hand(saved: Path) -> None:
    model: Any = mer_zoo.create_model("ststnet")
    result = model.load_state_dict(load_file(saved / "model.safetensors"))
    assert not result.missing_keys
    assert not result.unexpected_keys


def test_loading_leaves_mode_and_random_numbers_alone(saved: Path) -> None:
    torch.manual_seed(5)
    expected = mer_zoo.create_model("ststnet"), torch.rand(3)
    torch.manual_seed(5)
    found = mer_zoo.create_model(f"local-dir:{saved}", pretrained=True), torch.rand(3)
    assert found[0].training == expected[0].training
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=0)


def test_half_precision_loads_and_is_proven(saved: Path) -> None:
    model = mer_zoo.create_model(f"local-dir:{saved}", pretrained=True, dtype=torch.bfloat16)
    assert next(model.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("offline", ["1", "0"])
def test_a_tag_that_is_nowhere_is_an_error_within_a_second(offline: str, tmp_path: Path) -> None:
    """Registered, but its weights are neither in the package, nor cached, nor reachable."""
    weights = tmp_path / "weights"
    shutil.copytree(SHIPPED, weights)
    (weights / "ststnet.synth_3.safetensors").unlink()
    code = (
        "import time, mer_zoo\n"
        "from mer_zoo.models import _builder, _weights\n"
        "from pathlib import Path\n"
        f"_builder.register(mer_zoo.input_spec('ststnet'), Path({str(weights)!r}))("
        "__import__('timm').model_entrypoint('ststnet'))\n"
        "started = time.perf_counter()\n"
        "try:\n"
        "    mer_zoo.create_model('ststnet.synth_3', pretrained=True)\n"
        "except mer_zoo.errors.WeightsError as error:\n"
        "    print(time.perf_counter() - started, error)\n"
    )
    environment = {"HF_HUB_OFFLINE": offline, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    seconds, _, said = done.stdout.partition(" ")
    assert float(seconds) < 1
    assert "mer-zoo/ststnet.synth_3" in said


def test_a_tag_that_nobody_made_is_refused_at_once() -> None:
    started = time.perf_counter()
    with pytest.raises(
        WeightsError, match=r"no weights 'dat_densenet3d_121.synth_3'; for dat_densenet3d_121 there are: none"
    ):
        mer_zoo.create_model("dat_densenet3d_121.synth_3", pretrained=True)
    assert time.perf_counter() - started < 1


def test_the_package_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though every tag has an address on the Hub, nothing is asked for what lies in the package."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(_weights, "fetch", asked)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", asked)
    assert mer_zoo.create_model("ststnet.synth_5", pretrained=True) is not None


@pytest.mark.parametrize("loaded", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("saved_as", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_of_any_precision_are_proven_in_any(saved_as: torch.dtype, loaded: torch.dtype, tmp_path: Path) -> None:
    model = mer_zoo.create_model("dat_densenet3d_se").to(saved_as)
    mer_zoo.save_pretrained(model, tmp_path)
    again = mer_zoo.create_model(f"local-dir:{tmp_path}", pretrained=True, dtype=loaded)
    assert next(again.parameters()).dtype == loaded


def test_weights_are_proven_under_autocast_too() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert mer_zoo.create_model("dat_densenet3d", pretrained=True) is not None


def test_an_overlay_that_names_no_file_leaves_the_tag_as_it_is() -> None:
    model: Any = mer_zoo.create_model("ststnet", pretrained=True, pretrained_cfg_overlay={"crop_pct": 1.0})
    assert model.saved_facts["trained_on"]
    assert mer_zoo.input_spec(model) == mer_zoo.input_spec("ststnet.synth_3")


@pytest.mark.parametrize("key", ["pretrained_cfg", "pretrained_cfg_overlay"])
def test_a_file_named_by_hand_is_proven_if_its_configuration_lies_beside_it(key: str, saved: Path) -> None:
    given = {key: {"file": str(saved / "model.safetensors"), "num_classes": 3, "classifier": "fc"}}
    assert mer_zoo.create_model("ststnet", pretrained=True, **given) is not None
    _edited(saved, **{"conv1.bias": load_file(saved / "model.safetensors")["conv1.bias"] + 0.5})
    with pytest.raises(WeightsError, match="answers its probe otherwise"):
        mer_zoo.create_model("ststnet", pretrained=True, **given)


def test_a_checkpoint_is_proven_if_its_configuration_lies_beside_it(saved: Path) -> None:
    _edited(saved, **{"conv1.bias": load_file(saved / "model.safetensors")["conv1.bias"] + 0.5})
    with pytest.raises(WeightsError, match="answers its probe otherwise"):
        mer_zoo.create_model("ststnet", checkpoint_path=str(saved / "model.safetensors"))


def test_a_checkpoint_out_of_the_package_remembers_what_it_has_seen() -> None:
    file = SHIPPED / "ststnet.synth_3.safetensors"
    model: Any = mer_zoo.create_model("ststnet", checkpoint_path=str(file))
    assert all(person.startswith("synthetic/") for person in model.saved_facts["trained_on"])


@pytest.mark.parametrize("known", ["sha256", ""])
def test_a_folder_with_weights_of_another_network_lists_their_names(known: str, saved: Path, tmp_path: Path) -> None:
    other = mer_zoo.save_pretrained(mer_zoo.create_model("dat_densenet3d_se"), tmp_path / "other")
    shutil.copyfile(other / "model.safetensors", saved / "model.safetensors")
    if known:
        with pytest.raises(WeightsError, match="its sha256 is"):
            mer_zoo.create_model(f"local-dir:{saved}", pretrained=True)
        return
    _edited(saved)
    with pytest.raises(InputError, match=r"not the weights of this STSTNet\. \d+ missing: conv1\.weight, "):
        mer_zoo.create_model(f"local-dir:{saved}", pretrained=True)


def test_other_parts_than_were_saved_are_not_left_random(tmp_path: Path) -> None:
    """timm would load what fits and say so in a log."""
    folder = mer_zoo.save_pretrained(mer_zoo.create_model("dat_densenet3d_se"), tmp_path / "se")
    with pytest.raises(InputError, match=r"\d+ unexpected: .*reduce\.weight"):
        mer_zoo.create_model(f"local-dir:{folder}", pretrained=True, attention="none", num_classes=7)


def test_a_checkpoint_for_a_model_without_classes_says_how_to_adapt(saved: Path) -> None:
    with pytest.raises(InputError, match=r"for 3 classes, the model has 0\..*reset_classifier\(0\)"):
        mer_zoo.create_model("ststnet", num_classes=0, checkpoint_path=str(saved / "model.safetensors"))


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_a_checkpoint_that_is_none(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.pth cannot be read|There is no file .*w\.pth"):
        mer_zoo.create_model("ststnet", checkpoint_path=str(file))


def test_a_checkpoint_of_other_things_than_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "best": 0.9}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth holds no state dict, but epoch, best"):
        mer_zoo.create_model("ststnet", checkpoint_path=str(tmp_path / "w.pth"))


def test_features_and_a_checkpoint_do_not_go_together(saved: Path) -> None:
    with pytest.raises(InputError, match="features_only does not go with checkpoint_path"):
        mer_zoo.create_model("ststnet", features_only=True, checkpoint_path=str(saved / "model.safetensors"))


def test_features_of_weights_that_were_checked() -> None:
    whole: Any = mer_zoo.create_model("ststnet", pretrained=True).eval()
    features: Any = mer_zoo.create_model("ststnet", pretrained=True, features_only=True).eval()
    x = _clips(whole)
    torch.testing.assert_close(features(x)[-1], whole.forward_features(x))


def test_a_folder_of_another_library_is_refused(saved: Path) -> None:
    file = saved / "config.json"
    for architecture in ("resnet18", "nonsense", None):
        config = json.loads(file.read_text())
        file.write_text(json.dumps({**config, "architecture": architecture}))
        with pytest.raises(WeightsError, match=f"is of {architecture!r}, which is no network of this library"):
            mer_zoo.create_model(f"local-dir:{saved}", pretrained=True)


def test_a_fresh_model_does_not_take_over_the_names_of_shipped_weights(tmp_path: Path) -> None:
    mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert not config.get("tag")
    assert not config.get("label_names")


def test_a_model_without_classes_is_saved(tmp_path: Path) -> None:
    model: Any = mer_zoo.create_model("ststnet", pretrained=True, num_classes=0).eval()
    mer_zoo.save_pretrained(model, tmp_path)
    again: Any = mer_zoo.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = _clips(model)
    torch.testing.assert_close(again(x), model(x))
