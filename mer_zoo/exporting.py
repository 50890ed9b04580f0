"""Networks as one file for other programs: ONNX, or PyTorch's own exported program.

Both are traced in evaluation mode, float32, on the CPU, for batches of any size, and answer as the network does before
they are written. Each file carries what it eats and what it says, and the same stands in a JSON file beside it. Nothing
is written by pickle, and no path of this machine: the exporters would write where each line of the network stands.
"""

import contextlib
import copy
import hashlib
import importlib.util
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import DivergedError, InputError, WeightsError
from mer_zoo.models import create_model
from mer_zoo.models._base import ZooModel
from mer_zoo.models._builder import FOLDER
from mer_zoo.types import InputSpec, seen_by

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}  # and how the name of a file ends
INPUT, INSIDE = "clips", "mer_zoo.json"  # the latter is the description within a .pt2
OPSET = 18  # of ONNX; what torch writes without converting
TOLERANCE = 1e-4

EXTRA = ("onnx", "onnxruntime", "onnxscript")

Facts = dict[str, Any]
Answer = Callable[[Tensor], Tensor]


def export_model(model_or_name: nn.Module | str, file: str | Path, *, format: str = "onnx") -> Path:  # noqa: A002
    """Write a network as one file that runs without this library.

    It maps ``clips``, float32 ``(B, *input_spec.shape)`` with any B from 1 up, to ``logits`` (B, num_classes), or to
    ``features`` where the model has no classes. They are those of the network in evaluation mode and float32; this is
    tried before anything is written. Beside ``NAME.onnx`` comes ``NAME.onnx.json``, beside ``NAME.pt2``
    ``NAME.pt2.json``: input spec, classes, what the weights have seen, and the file's sha256. ONNX has the same in its
    metadata, by key, each value as JSON; a ``.pt2`` has it as the extra file ``mer_zoo.json``.

    Args:
        model_or_name: Made by ``create_model``, and left as it is; or a name, whose weights are loaded: ``name.tag``,
            ``hf-hub:owner/repo@revision``, ``local-dir:path``, or a plain name for the weights that
            ``pretrained=True`` means.
        file: What to write, ending in ``.onnx`` or ``.pt2``; an earlier one is replaced, and its folder is made.
        format: ``onnx``, which needs the extra ``export``, or ``torch``: read by ``torch.export.load``.

    Returns:
        The file.

    Raises:
        InputError: If the format is unknown, the file ends otherwise, the JSON beside it describes something else, the
            extra is not installed, the model is none of ours or gives maps (``features_only``), or it does what ONNX
            cannot say.
        UnknownNameError: If no model has this name.
        WeightsError: If a name has no weights, they cannot be had, or the file would answer otherwise than the network
            by more than 1e-4 of max(1, absolute logit).
        DivergedError: If the network's answer is not finite.

    Weights lie in the file itself. ONNX allows it 2 GB; our largest network has 0.2 GB.
    """
    file = Path(file).expanduser()
    _check_format(format, file)
    _check_place(file)
    model = create_model(model_or_name, pretrained=True) if isinstance(model_or_name, str) else model_or_name
    network = _still(model)
    facts = _facts(network, model_or_name)
    content = (_onnx if format == "onnx" else _torch)(network, facts)
    _compare(network, _run_onnx(content) if format == "onnx" else _run_torch(content))
    opset = {"opset": OPSET} if format == "onnx" else {}
    sha256 = hashlib.sha256(content).hexdigest()
    _write(file, content, {"file": file.name, "format": format, **opset, "sha256": sha256, **facts})
    return file


def description(file: Path) -> Path:
    """The JSON file beside an exported one."""
    return file.with_name(f"{file.name}.json")


def _check_format(format: str, file: Path) -> None:  # noqa: A002
    """Refuse an unknown format, another file's name, and ONNX without what it needs."""
    if format not in FORMATS:
        raise InputError(f"format is {format!r}; expected {' or '.join(map(repr, FORMATS))}.")
    if file.suffix != FORMATS[format]:
        raise InputError(f"{file} does not end in {FORMATS[format]}; expected so for format {format!r}.")
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None] if format == "onnx" else []
    if missing:
        raise InputError(f'ONNX needs {", ".join(missing)}, not installed here: pip install "mer-zoo[export]"')


def _check_place(file: Path) -> None:
    """Refuse to write below a file, over a folder, or over a JSON file that describes something else."""
    lowest = next(folder for folder in file.parents if folder.exists())
    if not lowest.is_dir():
        raise InputError(f"{lowest} is a file; {file} cannot be written below it.")
    beside = description(file)
    for path in (file, beside):
        if path.is_dir():
            raise InputError(f"{path} is a folder, and a file of this name is to be written; choose another name.")
    if not beside.exists():
        return
    try:
        described = json.loads(beside.read_text(encoding="utf-8"))["file"]
    except (ValueError, KeyError, TypeError):
        described = None
    if described != file.name:
        what = f"describes {described}" if described else "is of something else"
        raise InputError(f"{beside} is there and {what}; choose another name than {file.name}, or another folder.")


def _still(model: nn.Module) -> ZooModel:
    """A copy that no longer learns: evaluation mode, float32, CPU."""
    if not (isinstance(model, ZooModel) and hasattr(model, "pretrained_cfg")):
        raise InputError(
            f"{type(model).__name__} cannot be exported; expected a name, or a model as create_model makes it, without "
            "features_only."
        )
    if next(model.parameters()).is_meta:
        raise InputError("The model lies on the device 'meta' and has no weights; make it on another one.")
    return copy.deepcopy(model).cpu().float().eval().requires_grad_(False)


def _facts(network: ZooModel, asked: object) -> Facts:
    """What is known of the network and its weights, as plain values."""
    named = isinstance(asked, str) and not asked.startswith(FOLDER)  # where a folder lies is nobody's business
    return {
        "name": asked if named else cast(Any, network).pretrained_cfg["architecture"],
        "input_spec": network.input_spec.to_dict(),
        **network.saved_facts,
        "classes": list(network.classes),
        "trained_on": seen_by(network),
        "input": INPUT,
        "output": _output(network),
        "mer_zoo": mer_zoo.__version__,
    }


def _output(network: ZooModel) -> str:
    return "logits" if network.num_classes else "features"


def _clips(spec: InputSpec, number: int) -> Tensor:
    """A random batch in the spec's range, the same at every call."""
    noise = torch.rand(number, *spec.shape, generator=torch.Generator().manual_seed(number))
    return spec.low + (spec.high - spec.low) * noise


def _example(network: ZooModel) -> tuple[tuple[Tensor], tuple[dict[int, Any]]]:
    """A batch to trace with, and which of its lengths may be another. A batch of one would be taken for the rule."""
    return (_clips(network.input_spec, 2),), ({0: torch.export.Dim("batch")},)


def _onnx(network: ZooModel, facts: Facts) -> bytes:
    """A whole, checked ONNX model."""
    import onnx

    clips, dynamic = _example(network)
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [_output(network)]}
    try:
        program = torch.onnx.export(
            network, clips, dynamo=True, dynamic_shapes=dynamic, opset_version=OPSET, verbose=False, **names
        )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(
            f"ONNX cannot say what this {type(network).__name__} does: {_root(error)} format='torch' may."
        ) from error
    model = cast(Any, program).model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    content = cast(bytes, model.SerializeToString())
    onnx.checker.check_model(content, full_check=True)
    return content


def _root(error: BaseException) -> str:
    """The first sentence of what an error began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{str(error).partition('. ')[0].rstrip('.')}."


def _run_onnx(content: bytes) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda clips: torch.from_numpy(session.run(None, {INPUT: clips.numpy()})[0])


def _torch(network: ZooModel, facts: Facts) -> bytes:
    """A ``.pt2`` archive of JSON and plain numbers."""
    clips, dynamic = _example(network)
    program = torch.export.export(network, clips, dynamic_shapes=dynamic)
    program.example_inputs = None  # the one thing that would be pickled
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    file = io.BytesIO()
    with _unwarned("No complete tensor found"):  # which torch says of weights that lie channels-last; they are whole
        torch.export.save(program, file, extra_files={INSIDE: json.dumps(facts)})
    return file.getvalue()


def _run_torch(content: bytes) -> Answer:
    return cast(Answer, torch.export.load(io.BytesIO(content)).module())


@contextlib.contextmanager
def _unwarned(message: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield


@torch.no_grad()
def _compare(network: ZooModel, answer: Answer) -> None:
    """Refuse an exported network that does not answer as the network itself, one clip at a time and three at once."""
    for number in (1, 3):
        clips = _clips(network.input_spec, number)
        expected, found = network(clips), answer(clips)
        if not expected.isfinite().all():
            raise DivergedError("The network's answer is not finite; train it again, or load other weights.")
        difference = float(((found - expected).abs() / expected.abs().clamp(min=1)).max())
        if not difference <= TOLERANCE:
            raise WeightsError(
                f"The exported {type(network).__name__} answers otherwise than the network, by {difference:.2g} of its "
                f"logits for {number} clip(s); expected {TOLERANCE:g} at most. Nothing was written. Remove hooks that "
                "act only in some calls, or try other versions of torch, onnxscript and onnxruntime."
            )


def _write(file: Path, content: bytes, facts: Mapping[str, Any]) -> None:
    """Write the file and its description aside, then move both."""
    beside = description(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".exporting-", dir=file.parent))
    try:
        (aside / file.name).write_bytes(content)
        (aside / beside.name).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for path in (file, beside):
            (aside / path.name).replace(path)
    finally:
        shutil.rmtree(aside)
