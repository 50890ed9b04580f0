"""Write the tables of docs/ and README.md from the registries: python tools/tables.py [--check].

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. With --check nothing is written, and the exit status
is 1 when a table is out of date.
"""

import argparse
import dataclasses
import inspect
import math
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import ModelCard

import mer_zoo
from mer_zoo.backends import BACKENDS
from mer_zoo.baselines import BASELINES
from mer_zoo.cost import step_cost
from mer_zoo.datasets._annotated import SheetCorpus
from mer_zoo.datasets._base import CORPORA
from mer_zoo.datasets._folders import PictureCorpus
from mer_zoo.datasets._long_videos import LongVideoCorpus
from mer_zoo.models._weights import SHIPPED
from mer_zoo.published import SCORES, published
from mer_zoo.rules import RULES
from mer_zoo.specs import FLOW_CHANNELS, FORMS, FRAME_CHANNELS
from mer_zoo.synth.emotions import COUNTS
from mer_zoo.synth.emotions import TABLES as TABLES_OF_UNITS
from mer_zoo.synth.settings import PRESETS, Settings, settings_of
from mer_zoo.types import FLAGS, Counts

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))
from cost_tables import recorded, table_of_costs, table_of_rivals  # noqa: E402

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def models() -> list[list[str]]:
    """Every network: weights, input, first line of its docstring."""
    rows = [["name", "weights", "input", "what it is"]]
    for name in mer_zoo.list_models():
        model = mer_zoo.create_model(name, device="meta")
        spec = mer_zoo.input_spec(name)
        shape = " x ".join(map(str, spec.shape))
        eats = f"{spec.kind} {shape}, {', '.join(spec.channels)}, {spec.low:g} to {spec.high:g}"
        weights = sum(p.numel() for p in model.parameters())
        rows.append([f"`{name}`", f"{weights:,}", eats, _first_line(timm.model_entrypoint(name))])
    return rows


def costs() -> list[list[str]]:
    """Every network: counts, made anew, and what was measured; a network whose counts moved must be measured again."""
    record, found = recorded(), {}
    for name in mer_zoo.list_models():
        now, then = step_cost(partial(mer_zoo.create_model, name)), record.get(name, {}).get("cost", {})
        alike = now.parameters == then.get("parameters") and all(
            math.isclose(getattr(now, count), then[count], rel_tol=0.05) for count in ("forward", "step", "kept")
        )  # to five in a hundred: versions of torch differ in what they keep
        if not alike:
            sys.exit(f"{name} was not measured as it is now; run python benchmarks/models.py {name} --write.")
        found[name] = record[name]
    return table_of_costs(found)


def rivals() -> list[list[str]]:
    """Other forms of the networks, timed in turn with ours."""
    return table_of_rivals(recorded())


def kinds() -> list[list[str]]:
    """Every kind of input: what it is, and the shape of its tensor."""
    rows = [["kind", "what it is", "tensor", "channels"]]
    for name, form in FORMS.items():
        time = "" if form.most == 1 else " x T" if form.most is None else f" x {form.most}"
        shape = "C x H x W, or C x T x H x W" if name == "flow" else f"C{time} x H x W"
        channels = FLOW_CHANNELS if form.flow else FRAME_CHANNELS
        rows.append([f"`{name}`", form.says, shape, ", ".join(channels)])
    return rows


def weights() -> list[list[str]]:
    """Every shipped weight: classes, size, and the scores in its card."""
    tests = {
        "new persons": "new persons:",
        "family field": "new persons, family field:",
        "SMIC and CASME II, zero-shot": "zero-shot: 40 real persons",
    }
    rows = [["name", "classes", "kB", "score", *tests]]
    for name in mer_zoo.list_models(pretrained=True):
        card: Any = ModelCard((SHIPPED / f"{name}.md").read_text(encoding="utf-8"))
        found = card.data.eval_results
        metric = found[0].metric_name
        scores = {entry.dataset_split: entry.metric_value for entry in found if entry.metric_name == metric}
        cells = [
            [f"{value:.3f}" for split, value in scores.items() if split.startswith(start)] for start in tests.values()
        ]
        model: Any = mer_zoo.create_model(name, device="meta")
        file = SHIPPED / f"{name}.safetensors"
        size = f"{file.stat().st_size / 1000:.0f}" if file.exists() else "on the Hub"
        shown = [cell[0] if cell else "-" for cell in cells]
        rows.append([f"`{name}`", ", ".join(model.classes), size, metric, *shown])
    return rows


def tuning() -> list[list[str]]:
    """What weights for flow add on real persons, as their card says."""
    card = (SHIPPED / "ststnet.synth_3.md").read_text(encoding="utf-8")
    lines = card.partition("## What they add on real persons")[2].partition("## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if not row[0].startswith("---")]


def corpora() -> list[list[str]]:
    """Every corpus: what it is, how many clips its sheet or publication counts, and whether it needs files."""
    rows = [["name", "what it is", "clips (persons)", "files"]]
    for name in mer_zoo.list_corpora():
        corpus = CORPORA.get(name)
        counts = [*corpus.counts.values()]
        if issubclass(corpus, LongVideoCorpus):
            counts = [corpus.by_expressions["micro"]]
        size = ", ".join(map(_size, counts)) or "any number"
        rows.append([f"`{name}`", corpus.title, size, "yours" if corpus.needs_root else "none, it is made"])
    return rows


def obtain() -> list[list[str]]:
    """Every corpus that has an owner: whom to ask, and on what terms; those on the same terms in one row."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name in mer_zoo.list_corpora():
        corpus = CORPORA.get(name)
        if corpus.owner:
            where = f"{corpus.owner}<br>{corpus.homepage}"
            names.setdefault((where, corpus.terms, corpus.forbidden), []).append(f"`{name}`")
    return [["name", "whom to ask", "terms", "you may not"], *([", ".join(n), *facts] for facts, n in names.items())]


def flags() -> list[list[str]]:
    """What may be odd about a sample."""
    return [["flag", "what it says"], *([f"`{name}`", meaning] for name, meaning in FLAGS.items())]


def layouts() -> list[list[str]]:
    """Every corpus of pictures: its options, forms and sheets."""
    rows = [["name", "options", "form: such as", "sheet such as"]]
    for name in mer_zoo.list_corpora():
        corpus = CORPORA.get(name)
        if issubclass(corpus, PictureCorpus):
            own = [p for p in inspect.signature(corpus).parameters if p not in ("root", "sheet", "missing", "index")]
            forms = "<br>".join(f"{form}: `{layout.example}`" for form, layout in corpus.layouts.items())
            sheet = f"`{corpus.sheet.example}`" if issubclass(corpus, SheetCorpus) else "none"
            rows.append([f"`{name}`", ", ".join(f"`{option}`" for option in own), forms, sheet])
    return rows


def protocols() -> list[list[str]]:
    """Every protocol: classes, expected clips, source."""
    rows = [["name", "classes", "clips (persons)", "source"]]
    for name in mer_zoo.list_protocols():
        protocol = mer_zoo.get_protocol(name)
        counts = [f"{c} {_size(n)}" for c, n in protocol.counts.items() if n.clips]
        made = {"synthetic", "synthetic_flow"} >= set(protocol.counts)
        clips = ", ".join(counts) or ("any number" if made else "not known here")
        rows.append([f"`{name}`", _classes(protocol), clips, protocol.source])
    return rows


def knobs() -> list[list[str]]:
    """Every knob of the synthetic corpus in every preset."""
    presets = {name: settings_of(name) for name in PRESETS}
    rows = [["knob", *presets, "what it is"]]
    for field in dataclasses.fields(Settings):
        values = [_plain(getattr(settings, field.name)) for settings in presets.values()]
        rows.append([f"`{field.name}`", *values, _attribute(Settings, field.name)])
    return rows


def emotions() -> list[list[str]]:
    """Which action units make which emotion, by table."""
    rows = [["emotion", *(f"`{name}`" for name in TABLES_OF_UNITS)]]
    for emotion in COUNTS:
        chances = [table[emotion] for table in TABLES_OF_UNITS.values()]
        rows.append([emotion, *(", ".join(f"{unit}: {share:g}" for unit, share in units.items()) for units in chances)])
    return rows


def backends() -> list[list[str]]:
    """Every way to compute the folds of a run."""
    return [["backend", "what it does"], *([f"`{name}`", meaning] for name, meaning in BACKENDS.items())]


def rules() -> list[list[str]]:
    """Every rule by which the scored epoch is chosen, and what it leaks."""
    return [["selection", "what it scores", "mark"], *([f"`{n}`", r.meaning, r.leak or "-"] for n, r in RULES.items())]


def baselines() -> list[list[str]]:
    """Every baseline that can stand where a model name stands."""
    return [["name", "what it is"], *([f"`{name}`", baseline.summary] for name, baseline in BASELINES.items())]


def published_numbers() -> list[list[str]]:
    """Every published number of a whole protocol, with what chose its epoch."""
    rows = [["protocol", "method", "UF1", "UAR", "accuracy", "epoch chosen by", "source"]]
    for protocol in mer_zoo.list_protocols():
        for row in published(protocol):
            scores = [row.digits.get(score, "-") for score in SCORES]
            if row.part == "all":
                rows.append([f"`{protocol}`", row.method, *scores, row.selection, row.source])
    return rows


def scores() -> list[list[str]]:
    """What networks score on real flow, the short form of the table of docs/results.md."""
    wanted = ("network", "weights", "UF1", "SVM's UF1", "CPU minutes of training a seed")
    head, *body = _rows_of("results.md", "## Flow networks on real optical flow")
    return [[row[head.index(column)] for column in wanted] for row in (head, *body)]


def scored() -> list[list[str]]:
    """Networks that docs/results.md has a score of by leaving out each person; the SVM's on the same clips.

    Those that eat raw frames are left out.
    """
    rows = [["network", "weights", "kind of input", "UF1, mean over seeds", "SVM's", "on"]]
    parts = {
        "40 real persons": "## Flow networks on real optical flow",
        "12 rendered persons": "## Networks for clips on rendered faces",
    }
    for clips, heading in parts.items():
        head, *body = _rows_of("results.md", heading)
        for row in body:
            cell = dict(zip(head, row, strict=True))
            name = cell["network"].strip("`").split()[0]
            kind = mer_zoo.input_spec(name).kind if name in mer_zoo.list_models() else "clip"
            if kind != "clip" and "groups of persons" not in cell["recipe"]:
                rows.append([cell["network"], cell["weights"], kind, cell["UF1"], cell["SVM's UF1"], clips])
    return rows


def prices() -> list[list[str]]:
    """What 30 epochs over all folds of every protocol take, by the steps that docs/scaling.md measured."""
    steps = {row[0]: float(row[2]) for row in _rows_of("scaling.md", "## Measured on a CPU") if row[1] == "loop"}
    rows = [["protocol", "clips", "folds", *(f"`{network}`, CPU minutes" for network in steps)]]
    for name in mer_zoo.list_protocols():
        protocol = mer_zoo.get_protocol(name)
        clips, folds = sum(counts.clips for counts in protocol.counts.values()), _folds(protocol)
        if clips and folds:
            minutes = [_two_digits(clips * (folds - 1) * 30 * step / 60_000) for step in steps.values()]
            rows.append([f"`{name}`", f"{clips:,}", str(folds), *minutes])
    return rows


def api() -> list[list[str]]:
    """Every public name: where it is described, and the first line of its docstring."""
    rows = [["name", "what it is"]]
    for page in re.findall(r"^api/\w+$", (DOCS / "api.md").read_text(), re.MULTILINE):
        names = re.findall(r"^\.\. auto\w+:: mer_zoo\.(\w+)$", (DOCS / f"{page}.md").read_text(), re.MULTILINE)
        rows += [[f"[`{n}`]({page}.md)", _first_line(getattr(mer_zoo, n)).replace("``", "`")] for n in names]
    return rows


TABLES: dict[str, Callable[[], list[list[str]]]] = {
    "backends": backends,
    "rules": rules,
    "baselines": baselines,
    "published": published_numbers,
    "models": models,
    "costs": costs,
    "rivals": rivals,
    "kinds": kinds,
    "weights": weights,
    "scored": scored,
    "tuning": tuning,
    "corpora": corpora,
    "flags": flags,
    "obtain": obtain,
    "layouts": layouts,
    "protocols": protocols,
    "knobs": knobs,
    "emotions": emotions,
    "scores": scores,
    "prices": prices,
    "api": api,
}


def _rows_of(page: str, heading: str) -> list[list[str]]:
    """Head and rows of the first table under a heading of docs/."""
    part = (DOCS / page).read_text().partition(f"{heading}\n")[2]
    lines = re.findall(r"^\|(?!---).*(?=\|$)", part.partition("\n## ")[0].partition("|\n\n")[0] + "|", re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _folds(protocol: mer_zoo.Protocol) -> int | None:
    """How many folds a protocol has on the clips of its publication; None where that does not say."""
    persons = [counts.subjects for counts in protocol.counts.values()]
    maker = protocol.fold_maker
    if isinstance(maker, partial):
        return int(maker.keywords["k"])
    if maker is mer_zoo.folds.leave_one_corpus_out:
        return len(persons)
    return None if None in persons else sum(number or 0 for number in persons)


def _two_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _size(counts: Counts) -> str:
    return f"{counts.clips:,}" if counts.subjects is None else f"{counts.clips:,} ({counts.subjects})"


def _classes(protocol: mer_zoo.Protocol) -> str:
    """Classes, and of one corpus how many clips each has."""
    numbers = next(iter(protocol.counts.values())).classes if len(protocol.counts) == 1 else {}
    return ", ".join(f"{name} {numbers[name]}" if numbers.get(name) else name for name in protocol.classes)


def _plain(value: object) -> str:
    return " to ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else str(value)


def _attribute(kind: type, name: str) -> str:
    """What a class's docstring says of an attribute."""
    found = re.search(rf"^    {name}: (.*?)(?=^    \w+: |\Z|^\w)", inspect.getdoc(kind) or "", re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()).replace("``", "`") if found else ""


def _first_line(described: object) -> str:
    return (inspect.getdoc(described) or "").splitlines()[0]


def _markdown(rows: list[list[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def fill(text: str) -> str:
    """A page with every table in it made anew."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{_markdown(TABLES[found[2]]())}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--check", action="store_true")
    return words


def main() -> int:
    check = parser().parse_args().check
    stale = []
    for page in PAGES:
        text = page.read_text()
        filled = fill(text)
        if filled != text:
            stale.append(page.name)
            if not check:
                page.write_text(filled)
    print(f"{'Out of date' if check else 'Written'}: {', '.join(stale) or 'nothing'}.")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
