"""Exported networks, opened by onnxruntime and torch.export as another program would."""

import hashlib
import json
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mer_zoo
from mer_zoo.cli import main
from mer_zoo.cli_export import _file
from mer_zoo.errors import DivergedError, InputError, MerZooError, UnknownNameError, WeightsError
from mer_zoo.exporting import FORMATS, export_model
from mer_zoo.hub import keep_weights
from mer_zoo.models import _builder
from mer_zoo.models.ststnet import STSTNet
from mer_zoo.types import remember

SMALL = [
    name
    for name in mer_zoo.list_models()
    if sum(p.numel() for p in mer_zoo.create_model(name, device="meta").parameters()) < 1e6
]


def _network(name: str = "ststnet", **options: Any) -> Any:
    """A network as if trained: no batch norm of it is an identity."""
    torch.manual_seed(1)
    model: Any = mer_zoo.create_model(name, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor in (module.weight, module.bias, module.running_mean):
                assert tensor is not None
                nn.init.normal_(tensor, 0.5)
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def _clips(model: Any, number: int) -> Tensor:
    spec = mer_zoo.input_spec(model)
    return torch.empty(number, *spec.shape).uniform_(spec.low, spec.high)


def _opened(file: Path) -> Callable[[Tensor], Tensor]:
    """The exported network, by what reads such files."""
    if file.suffix == ".pt2":
        return torch.export.load(file).module()
    session = onnxruntime.InferenceSession(file)
    return lambda clips: torch.from_numpy(session.run(None, {"clips": clips.numpy()})[0])


def _assert_same(file: Path, model: Any, numbers: Sequence[int] = (1, 5)) -> None:
    answer = _opened(file)
    for number in numbers:
        clips = _clips(model, number)
        with torch.no_grad():
            expected, found = model(clips), answer(clips)
        assert expected.std() > 0
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def _beside(file: Path) -> Any:
    return json.loads(file.with_name(f"{file.name}.json").read_text(encoding="utf-8"))


# The same answers


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", SMALL)
def test_an_exported_network_answers_alike(name: str, format: str, tmp_path: Path) -> None:  # noqa: A002
    model = _network(name, num_classes=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = export_model(model, tmp_path / f"new/net{FORMATS[format]}", format=format)
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, f"{file.name}.json"]
    _assert_same(file, model)


@pytest.mark.slow
def test_a_large_network_is_one_file(tmp_path: Path) -> None:
    model = _network("dat_densenet3d_121")
    file = export_model(model, tmp_path / "net.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.json"]
    assert file.stat().st_size > 4 * 11e6  # its weights lie in it
    _assert_same(file, model, [1])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("ststnet", {"num_classes": 0}, (400,)),
        ("ststnet", {"num_classes": 0, "global_pool": "", "in_chans": 2}, (16, 5, 5)),
        ("dat_densenet3d_se", {"num_frames": 8, "in_chans": 3, "global_pool": "grid"}, (3,)),
    ],
)
def test_options_of_a_network_are_kept(
    name: str,
    options: dict[str, Any],
    shape: tuple[int, ...],
    format: str,  # noqa: A002
    tmp_path: Path,
) -> None:
    model = _network(name, **options)
    file = export_model(model, tmp_path / f"net{FORMATS[format]}", format=format)
    _assert_same(file, model)
    assert _opened(file)(_clips(model, 2)).shape == (2, *shape)
    assert _beside(file)["output"] == ("logits" if model.num_classes else "features")
    assert mer_zoo.InputSpec.from_dict(_beside(file)["input_spec"]) == mer_zoo.input_spec(model)


def test_half_precision_is_exported_in_full(tmp_path: Path) -> None:
    model = _network().half()
    _assert_same(export_model(model, tmp_path / "net.onnx"), model.float())


def test_names_and_shapes_in_onnx(tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(export_model(_network(), tmp_path / "net.onnx"))
    (clips,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (clips.name, clips.type, clips.shape) == ("clips", "tensor(float)", ["batch", 3, 28, 28])
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 3])
    with pytest.raises(Exception, match="Got: 27 Expected: 28"):
        session.run(None, {"clips": np.zeros((1, 3, 28, 27), np.float32)})


def test_the_same_network_gives_the_same_file(tmp_path: Path) -> None:
    first, again = (export_model(_network(), tmp_path / folder / "net.onnx").read_bytes() for folder in "ab")
    assert first == again


def test_a_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = _network().train()
    seen: list[bool] = []
    model.register_forward_hook(lambda module, *_: seen.append(module.training))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    chance = torch.get_rng_state()
    for format, suffix in FORMATS.items():  # noqa: A001
        export_model(model, tmp_path / f"{format}{suffix}", format=format)
    assert torch.equal(torch.get_rng_state(), chance)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(seen)
    model(_clips(model, 2))
    assert seen[-1]


# What is known of it


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a network whose epoch was chosen on test persons."""
    model = _network()
    remember(model, ["synthetic/1-1"])
    keep_weights(model, ["négative", "positive", "surprise"], "chosen on test subjects", tmp_path / "saved")
    return tmp_path / "saved"


def _check_facts(found: dict[str, Any]) -> None:
    assert found["classes"] == ["négative", "positive", "surprise"]
    assert found["trained_on"] == ["synthetic/1-1"]
    assert found["leak"] == "chosen on test subjects"
    assert found["mer_zoo"] == mer_zoo.__version__
    assert (found["name"], found["input"], found["output"]) == ("ststnet", "clips", "logits")
    assert mer_zoo.InputSpec.from_dict(found["input_spec"]) == mer_zoo.input_spec("ststnet")


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_known_stands_beside_the_file(saved: Path, format: str, tmp_path: Path) -> None:  # noqa: A002
    file = export_model(f"local-dir:{saved}", tmp_path / f"net{FORMATS[format]}", format=format)
    _assert_same(file, mer_zoo.create_model(f"local-dir:{saved}", pretrained=True).eval())
    found = _beside(file)
    _check_facts(found)
    assert (found["file"], found["format"]) == (file.name, format)
    assert found["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.get("opset") == (onnx.load(file).opset_import[0].version if format == "onnx" else None)


def test_what_is_known_stands_in_the_file(saved: Path, tmp_path: Path) -> None:
    props = onnx.load(export_model(f"local-dir:{saved}", tmp_path / "net.onnx")).metadata_props
    _check_facts({prop.key: json.loads(prop.value) for prop in props})
    file = export_model(f"local-dir:{saved}", tmp_path / "pt2/net.pt2", format="torch")
    inside = {"mer_zoo.json": ""}
    torch.export.load(file, extra_files=inside)
    _check_facts(json.loads(inside["mer_zoo.json"]))


@pytest.mark.parametrize("format", FORMATS)
def test_no_path_and_no_pickle_is_in_the_file(saved: Path, format: str, tmp_path: Path) -> None:  # noqa: A002
    file = export_model(f"local-dir:{saved}", tmp_path / f"net{FORMATS[format]}", format=format)
    contents = [file.read_bytes(), file.with_name(f"{file.name}.json").read_bytes()]
    if format == "torch":
        with zipfile.ZipFile(file) as archive:
            contents += [archive.read(name) for name in archive.namelist()]
        assert not any(content.startswith((b"PK", b"\x80")) for content in contents[2:])
    for path in (Path(mer_zoo.__file__).parent, Path(torch.__file__).parent, saved):
        assert not any(str(path).encode() in content for content in contents)


def test_a_tag_or_the_default_weights_are_exported(saved: Path, tmp_path: Path) -> None:
    """Registered anew from a folder of weights, as the wheel carries them."""
    (saved / "model.safetensors").rename(saved / "toyexport.first_3.safetensors")
    (saved / "config.json").rename(saved / "toyexport.first_3.json")

    def toyexport(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _builder.build("toyexport", STSTNet, pretrained, **kwargs)

    try:
        _builder.register(mer_zoo.input_spec("ststnet"), weights=saved)(toyexport)
        for name in ("toyexport", "toyexport.first_3"):
            file = export_model(name, tmp_path / f"{name}.onnx")
            _assert_same(file, _network())
            _check_facts({**_beside(file), "name": "ststnet"})
            assert _beside(file)["name"] == name
        with pytest.raises(WeightsError, match=r"no weights 'toyexport\.second'; .* there are: toyexport\.first_3\."):
            export_model("toyexport.second", tmp_path / "net.onnx")
    finally:
        for known in (_builder._SPECS, _builder._TAGS):
            for name in [name for name in known if name.startswith("toyexport")]:
                known.pop(name)


# What is refused


@pytest.mark.parametrize(
    ("model", "file", "format", "error", "words"),
    [
        ("ststnet", "net.onnx", "tflite", InputError, r"format is 'tflite'; expected 'onnx' or 'torch'\."),
        ("ststnet", "net.pt2", "onnx", InputError, r"net\.pt2 does not end in \.onnx"),
        ("ststnet", "net", "torch", InputError, r"net does not end in \.pt2"),
        ("ststnets", "net.onnx", "onnx", UnknownNameError, "Did you mean ststnet"),
        ("dat_densenet3d_se", "net.onnx", "onnx", WeightsError, "no weights 'dat_densenet3d_se'; .*: none.*local-dir:"),
        ("local-dir:nowhere", "net.onnx", "onnx", WeightsError, "nowhere is not there"),
        ("hf-hub:nobody", "net.onnx", "onnx", InputError, "no repository of the Hub"),
    ],
)
def test_refusals_of_words(
    model: str,
    file: str,
    format: str,  # noqa: A002
    error: type[MerZooError],
    words: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=words):
        export_model(model, tmp_path / "new" / file, format=format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mer_zoo.create_model("ststnet", features_only=True), "FeatureGetterNet cannot be .*features_only"),
        (lambda: nn.Linear(2, 2), "^Linear cannot be exported"),
        (lambda: STSTNet(), "^STSTNet cannot be exported; expected .* create_model"),
        (lambda: mer_zoo.create_model("ststnet", device="meta"), "has no weights"),
    ],
)
def test_refusals_of_models(make: Callable[[], nn.Module], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        export_model(make(), tmp_path / "new/net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_other_answers_are_never_written(format: str, tmp_path: Path) -> None:  # noqa: A002
    """What hooks add while it is traced, the network itself does not say."""
    file = tmp_path / f"net{FORMATS[format]}"
    model = _network()
    export_model(model, file, format=format)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    model.register_forward_hook(lambda _, __, out: out + 0.5 * torch.compiler.is_compiling())
    for target in (file, tmp_path / f"new/net{FORMATS[format]}"):
        with pytest.raises(WeightsError, match=r"answers otherwise than the network, by .*1 clip.*expected 0\.0001"):
            export_model(model, target, format=format)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_difference_matters_by_the_size_of_the_logits(tmp_path: Path) -> None:
    model = _network()
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.fill_(1000.0)
    model.register_forward_hook(lambda _, __, out: out + model.shift * torch.compiler.is_compiling())
    model.shift = 0.08
    export_model(model, tmp_path / "net.onnx")
    model.shift = 0.12
    with pytest.raises(WeightsError, match=r"by 0\.00012 of its logits"):
        export_model(model, tmp_path / "net.onnx")


def test_what_onnx_cannot_say_is_refused(tmp_path: Path) -> None:
    model = _network()
    model.register_forward_hook(lambda _, __, out: F.adaptive_avg_pool3d(out[:, None, None, None], (1, 1, 3)))
    with pytest.raises(
        InputError, match=r"what this STSTNet does: No ONNX function found for .*pool3d.* format='torch' may"
    ):
        export_model(model, tmp_path / "new/net.onnx")
    assert not list(tmp_path.iterdir())
    assert export_model(model, tmp_path / "net.pt2", format="torch").exists()


def test_a_network_that_diverged_is_not_written(tmp_path: Path) -> None:
    model = _network()
    nn.init.constant_(model.fc.weight, float("nan"))
    with pytest.raises(DivergedError, match="not finite"):
        export_model(model, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{}", "[1]", "not JSON", '{"file": "net.pt2"}'])
def test_the_json_of_something_else_is_spared(text: str, tmp_path: Path) -> None:
    (tmp_path / "net.onnx.json").write_text(text)
    with pytest.raises(
        InputError, match=r"net\.onnx\.json is there and (is of something else|describes net\.pt2); choose"
    ):
        export_model(_network(), tmp_path / "net.onnx")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("net.onnx.json", text)]


@pytest.mark.parametrize("name", ["net.onnx", "net.onnx.json"])
def test_a_folder_is_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name} is a folder"):
        export_model(_network(), tmp_path / "net.onnx")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_nothing_is_written_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError, match="notes is a file"):
        export_model(_network(), tmp_path / "notes/new/net.onnx")
    assert (tmp_path / "notes").read_text() == "mine"


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    for number in (2, 5):
        file = export_model(_network(num_classes=number), tmp_path / "net.onnx")
        assert _opened(file)(_clips(_network(), 1)).shape == (1, number)
        assert _beside(file)["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_only_onnx_needs_the_extra(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf'{package}, not installed here: pip install "mer-zoo\[export\]"'):
        export_model(_network(), tmp_path / "net.onnx")
    assert export_model(_network(), tmp_path / "net.pt2", format="torch").exists()


# The command


def test_the_command_exports_here_by_the_name(saved: Path) -> None:
    program = [sys.executable, "-m", "mer_zoo.cli", "export", "local-dir:saved"]
    done = subprocess.run(program, cwd=saved.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Wrote saved.onnx, and what it eats and says to saved.onnx.json\n"
    _assert_same(saved.parent / "saved.onnx", _network())


def test_the_command_writes_what_it_is_told(saved: Path) -> None:
    file = saved.parent / "new/net.pt2"
    assert main(["export", f"local-dir:{saved}", "--format", "torch", "--out", str(file)]) == 0
    _assert_same(file, _network())


def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "dat_densenet3d_se"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch("mer-zoo: There are no weights 'dat_densenet3d_se'; .*\n", said.err)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("ststnet.synth_3", "ststnet.synth_3"), ("hf-hub:me/x@v1", "x-v1"), ("local-dir:../my runs/best/", "best")],
)
def test_a_file_is_named_as_the_weights(name: str, stem: str) -> None:
    assert _file(name, "onnx") == Path(f"{stem}.onnx")
    assert _file(name, "torch") == Path(f"{stem}.pt2")
