"""Model cards: what weights are, have seen and were measured on, for the Hub to read and for people.

The front matter is the Hub's (``model-index`` for results); what follows it is plain Markdown.
"""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

import mer_zoo
from mer_zoo.errors import InputError, WeightsError
from mer_zoo.models._weights import CONFIG_KEY, ORGANISATION
from mer_zoo.specs import FORMS
from mer_zoo.types import InputSpec

FEW = 10  # persons that a card lists

USES = """## What it is for

For initialisation of a training of your own, and for teaching. It is a starting point and no finished instrument.

**Not for inferring emotion, intent or truthfulness of people.** A small movement of a face does not say what a person
feels, means or hides, and a class name here is the label that annotators or a program gave to a clip.

In the European Union, Regulation (EU) 2024/1689 (the AI Act) sets limits: Article 5(1)(f) prohibits systems that infer
emotions of a natural person in workplaces and education institutions, except for medical or safety reasons; Annex III,
point 1(c), makes systems intended for emotion recognition high-risk elsewhere; Article 50(3) obliges whoever deploys
one to inform the persons exposed to it. This is a pointer, not legal advice."""

CITE = """## How to cite

Cite this library, and the papers of the network and of the corpora that you use.

```bibtex
@software{{mer_zoo,
  title = {{mer-zoo: networks, corpora and honest evaluation for facial micro-expression recognition}},
  author = {{{{The mer-zoo developers}}}},
  version = {{{version}}},
  year = {{2026}}
}}
```"""


@dataclass(frozen=True)
class Result:
    """Scores of one test.

    Attributes:
        dataset: What they were measured on: ``synthetic faces, family field`` or ``CASME II``.
        tested: Which part of it: ``40 new persons, 960 clips``. Together with ``dataset`` and ``selection`` it names
            the test, so no two results of a card have all three alike.
        selection: How the epoch was chosen: ``last epoch, nothing was chosen on test persons``.
        scores: By metric, such as ``uf1``, values from 0 to 1: first that of these weights, then those of the same
            training with other seeds, if there were any.
        beside: By simple rule, such as ``majority`` or ``chance``, its value by metric.
        note: What else a reader must know.

    Raises:
        InputError: If nothing was scored, or a metric has no value.
    """

    dataset: str
    tested: str
    selection: str
    scores: Mapping[str, Sequence[float]]
    beside: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if not self.scores or not all(len(values) for values in self.scores.values()):
            raise InputError(f"A result on {self.dataset!r} has scores {dict(self.scores)}; expected a value or more.")


def make_card(
    config: Mapping[str, Any],
    *,
    repo: str = "OWNER/REPO",
    results: Sequence[Result] = (),
    training: str = "",
    limits: str = "",
) -> str:
    """The text of a ``README.md`` for saved weights.

    Args:
        config: All of the ``config.json`` that ``save_pretrained`` wrote.
        repo: Where on the Hub they lie or will lie.
        results: What was measured; without any the card says that nothing was.
        training: Markdown: how the weights were trained.
        limits: Markdown: what else they were not tested on or cannot do.

    Returns:
        YAML front matter and Markdown.

    Raises:
        WeightsError: If the configuration has no block of ours with an input spec.
        InputError: If the spec is none.
    """
    block = config.get(CONFIG_KEY) or {}
    if "input_spec" not in block:
        raise WeightsError(f"The configuration has no {CONFIG_KEY!r} block with an input spec; save with mer_zoo.")
    spec, architecture = InputSpec.from_dict(block["input_spec"]), str(config.get("architecture", "a network"))
    parts = [
        f"# {repo.rpartition('/')[2]}",
        f"Weights of `{architecture}`, a network for facial micro-expressions, in the library mer-zoo.",
        *_warning(block),
        _loading(repo),
        _input(spec),
        _classes(block.get("classes") or ()),
        _seen(block.get("trained_on") or (), training),
        _evaluated(results, limits),
        USES,
        CITE.format(version=mer_zoo.__version__),
        _licence(licensed_corpora(block)),
    ]
    front = _front_matter(spec, architecture, repo, results, bool(licensed_corpora(block)))
    return f"---\n{front.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def licensed_corpora(block: Mapping[str, Any]) -> list[str]:
    """Corpora that weights have seen and that are not made up, so that somebody else's terms hold for them.

    >>> licensed_corpora({"trained_on": ["smic/s01", "smic/s02", "synthetic/1-7"]})
    ['smic']
    """
    corpora = {str(name).partition("/")[0] for name in block.get("trained_on") or ()}
    return sorted(name for name in corpora if not name.startswith("synthetic"))


def _front_matter(
    spec: InputSpec, architecture: str, repo: str, results: Sequence[Result], licensed: bool
) -> ModelCardData:
    """What the Hub reads; weights that licensed corpora went into are not given away under MIT."""
    task = "video-classification" if spec.in_time else "image-classification"
    return ModelCardData(
        library_name="mer-zoo",
        license="other" if licensed else "mit",
        pipeline_tag=task,
        tags=["micro-expression", "facial-expression", "timm", "pytorch", architecture],
        model_name=repo.rpartition("/")[2],
        eval_results=[entry for result in results for entry in _entries(result, task)] or None,
    )


def _entries(result: Result, task: str) -> list[EvalResult]:
    """One for each metric: that of these weights."""
    return [
        EvalResult(
            task_type=task,
            dataset_type=re.sub(r"[^a-z0-9]+", "-", result.dataset.lower()).strip("-"),
            dataset_name=result.dataset,
            dataset_split=result.tested,
            dataset_config=f"epoch: {result.selection}",
            metric_type=name,
            metric_name=name,
            metric_value=round(values[0], 4),
            metric_config=f"of these weights; {_spread(values)} over {len(values)} seeds" if values[1:] else "one seed",
        )
        for name, values in result.scores.items()
    ]


def _warning(block: Mapping[str, Any]) -> list[str]:
    """For weights that were chosen on test persons."""
    if not block.get("leak"):
        return []
    said = f"**These weights were chosen on test persons** ({block['leak']}). Their scores on those persons measure"
    return [f"> {said} nothing; do not report them, and do not evaluate on them."]


def _loading(repo: str) -> str:
    owner, _, name = repo.partition("/")
    shipped = f'"{name}", pretrained=True)  # or "hf-hub:{repo}"'
    there = shipped if owner == ORGANISATION else f'"hf-hub:{repo}", pretrained=True)'
    code = f"import mer_zoo\n\nmodel = mer_zoo.create_model({there}"
    return f"```sh\npip install mer-zoo\n```\n\n```python\n{code}\n```"


def _input(spec: InputSpec) -> str:
    axes = "(B, C, T, H, W)" if spec.in_time else "(B, C, H, W)"
    rows = {
        "kind": f"`{spec.kind}`: {FORMS[spec.kind].says}",
        "channels, in this order": ", ".join(spec.channels),
        "size": f"{spec.size} x {spec.size} pixels",
        "frames": str(spec.frames),
        "values": f"{spec.low:g} to {spec.high:g}",
        "scaling": f"`{spec.scaling}`",
        "gain": f"{spec.gain:g}",
        **({"optical flow by": f"`{spec.flow_method}`"} if spec.flow_method else {}),
        **({"frames in between": f"`{spec.interpolation}`"} if spec.interpolation != "linear" else {}),
        **({"motion magnified": _magnified(spec)} if spec.magnification != 1 else {}),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    shape = ", ".join(map(str, spec.shape))
    return (
        f"## What it eats\n\nTensors {axes}, here (B, {shape}). `mer_zoo.input_spec(model)` says the same, and "
        f"what makes inputs from raw clips takes it.\n\n| | |\n|---|---|\n{table}"
    )


def _magnified(spec: InputSpec) -> str:
    low, high = spec.band
    how = f"by `{spec.filter}`, wavelength {spec.wavelength:g} px"
    return f"{spec.magnification:g} times from {low:g} to {high:g} Hz {how}"


def _classes(classes: Sequence[str]) -> str:
    if not classes:
        return "## Classes\n\nNo names were saved with the weights."
    several = all(re.fullmatch(r"AU\d+", name) for name in classes)
    how = (
        "action units: a clip may have several of them, or none (a sigmoid for each logit)"
        if several
        else "classes: a clip has exactly one of them (a softmax over logits)"
    )
    return f"## Classes\n\n{len(classes)} {how}. In the order of the logits: {', '.join(classes)}."


def _seen(trained_on: Iterable[str], training: str) -> str:
    """By corpus, since persons may be hundreds."""
    persons: dict[str, list[str]] = {}
    for name in sorted(map(str, trained_on)):
        persons.setdefault(name.partition("/")[0], []).append(name)
    if not persons:
        said = "Nothing is noted of what the weights have seen: they are random, or were trained by other means."
    else:
        said = "\n".join(f"- {corpus}: {_persons(corpus, names)}" for corpus, names in persons.items())
        made_up = all(corpus.startswith("synthetic") for corpus in persons)
        said += "\n\nAll of it is made up; no picture of a real person was used." if made_up else ""
    return "\n\n".join(["## What the weights have seen", said, *([training.strip()] if training.strip() else [])])


def _persons(corpus: str, names: Sequence[str]) -> str:
    if corpus in names:
        return "all of it"
    listed = f"{', '.join(names[:FEW])}{', …' if len(names) > FEW else ''}"
    return f"{len(names)} {'entry' if len(names) == 1 else 'entries'}: {listed}"


def _evaluated(results: Sequence[Result], limits: str) -> str:
    parts = ["## Evaluated on"]
    if results:
        parts += [
            _table(results),
            *(f"{result.dataset}, {result.tested}: {r}" for result in results if (r := result.note)),
        ]
        rest = "Anything that the table does not name."
    else:
        parts.append("Nothing that was noted here. Measure on persons of your own before you trust it.")
        rest = "Anything at all, as far as this card knows."
    rest += " Nothing is claimed for other people, ages, skin tones, cameras, frame rates or light."
    return "\n\n".join([*parts, "## Not evaluated on", rest, *([limits.strip()] if limits.strip() else [])])


def _table(results: Sequence[Result]) -> str:
    """A row for each test, a column for each metric, and what simple rules score."""
    metrics = list(dict.fromkeys(name for result in results for name in result.scores))
    rows = [["data", "part", "epoch", *metrics, f"simple rules: {' / '.join(metrics)}"], ["---"] * (4 + len(metrics))]
    for result in results:
        own = [_own(result.scores[name]) if name in result.scores else "" for name in metrics]
        beside = ", ".join(f"{rule} {_row(values, metrics)}" for rule, values in result.beside.items())
        rows.append([result.dataset, result.tested, result.selection, *own, beside])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if any(len(values) > 1 for result in results for values in result.scores.values()):
        lines += ["", "Of these weights; in brackets mean ± standard deviation over seeds, these weights' included."]
    return "\n".join(lines)


def _own(values: Sequence[float]) -> str:
    return f"{values[0]:.3f} ({_spread(values)})" if len(values) > 1 else f"{values[0]:.3f}"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"


def _row(values: Mapping[str, float], metrics: Sequence[str]) -> str:
    return " / ".join(f"{values[name]:.3f}" if name in values else "-" for name in metrics)


def _licence(corpora: Sequence[str]) -> str:
    if not corpora:
        return "## Licence\n\nMIT, as the library."
    return (
        f"## Licence\n\nThe library is MIT. These weights have seen {', '.join(corpora)}, whose owners give their data "
        "under agreements that forbid passing them on; whether weights may be passed on is for the owners to say."
    )
