"""What a copy of a corpus holds beside what its owners and their papers say, without showing any of it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mer_zoo.datasets._annotated import SheetCorpus
from mer_zoo.datasets._base import Corpus
from mer_zoo.datasets._folders import PictureCorpus, by_subject
from mer_zoo.datasets._tables import digest_of
from mer_zoo.datasets._tree import shown
from mer_zoo.errors import CorpusError
from mer_zoo.types import FLAGS, UNUSABLE, Counts, Sample

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, what was expected and found, and whether that is as it should be."""

    corpus: str
    what: str
    expected: str
    found: str
    ok: bool = True
    note: str = ""


def as_table(checks: Iterable[Check]) -> "pd.DataFrame":
    """Lines as a table, one column an attribute, that can be saved whatever folders are called."""
    import pandas as pd

    rows = [{k: v if k == "ok" else shown(v) for k, v in asdict(check).items()} for check in checks]
    return pd.DataFrame(rows, columns=list(Check.__dataclass_fields__))


def as_text(table: "pd.DataFrame") -> str:
    """A table of lines to print: what is wrong stands out, notes at the end of the line."""
    width = max((len(what) for what in table["what"]), default=0)
    lines = []
    for row in table.itertuples():
        numbers = row.found if row.ok or row.expected == row.found else f"{row.found}, expected {row.expected}"
        note = f"  ({row.note})" if row.note else ""
        lines.append(f"{'ok   ' if row.ok else 'WRONG'}  {row.corpus}  {row.what:{width}}  {numbers}{note}")
    wrong = int((~table["ok"].astype(bool)).sum())
    if not lines:
        return "There is nothing to compare."
    return "\n".join([*lines, f"{wrong} of {len(table)} lines are wrong." if wrong else "Nothing is wrong."])


def counted(corpus: str, samples: Sequence[Sample], expected: Counts) -> Iterator[Check]:
    """Clips, persons and clips of each emotion beside the published counts."""

    def line(what: str, wanted: object, found: object, ok: bool) -> Check:
        return Check(corpus, what, str(wanted), str(found), ok)

    found = Counts.of(list(samples), [s.emotion for s in samples])
    yield line("clips", expected.clips, found.clips, expected.clips == found.clips)
    persons = expected.subjects
    yield line("persons", _or_unknown(persons), found.subjects, persons in (None, found.subjects))
    for name in {**expected.classes, **found.classes}:
        wanted = expected.classes.get(name, 0) if expected.classes else None
        number = found.classes.get(name, 0)
        yield line(f"clips of {name}", _or_unknown(wanted), number, wanted in (None, number))


def opened(corpus: Corpus, samples: Sequence[Sample]) -> Check:
    """Whether every picture can be read."""
    broken = [complaint for s in samples if UNUSABLE not in s.flags and (complaint := _complaint(corpus, s))]
    what = "clips with unreadable pictures"
    return Check(corpus.name, what, "0", str(len(broken)), not broken, " ".join(broken))


def _complaint(corpus: Corpus, sample: Sample) -> str:
    try:
        _ = corpus.clip(sample) if corpus.native_spec is None else corpus.flow_image(sample)
    except CorpusError as error:
        return str(error).replace(f"{shown(corpus.root)}/", "")  # whose disk it is, is nobody's business
    return ""


def checks_of_sheets(corpus: SheetCorpus, samples: Sequence[Sample]) -> Iterator[Check]:
    """The sheets, their rows, what was mended in them, and clips that they name twice."""
    for file in (*corpus.sheet_files, *corpus.further_sheets):
        yield Check(corpus.name, "sheet", "any", shown(file.name), True, f"sha256 {digest_of(file)}")
    rows, used = len(corpus.rows), sum(corpus.names(row) is not None for row in corpus.rows)
    yield Check(corpus.name, "rows of the sheet", "any", str(rows), True, f"{rows - used} are about no clip")
    for fix in corpus.fixes:
        outcome = corpus.outcome.get(fix, "not there")
        fine = outcome in ("mended", "right already", "not there")
        what = f"{fix.subject}/{fix.clip}: {fix.column} {fix.was} is {fix.now}"
        yield Check(corpus.name, what, "mended", outcome, fine, fix.why)
    times = Counter((s.subject, s.clip) for s in samples)
    twice = ["/".join(names) for names, number in times.items() if number > 1]
    yield Check(corpus.name, "clips named twice", "0", str(len(twice)), not twice, ", ".join(twice))
    for name, number in sorted(Counter(s.objective for s in samples if s.objective).items()):
        wanted = corpus.objective_counts.get(name)
        fine = wanted in (None, number)
        yield Check(corpus.name, f"clips of objective class {name}", _or_unknown(wanted), str(number), fine)


def checks_of_pictures(corpus: PictureCorpus, pictures: bool) -> Iterator[Check]:
    """Files, counts and irregularities of a corpus of pictures."""
    samples = corpus.found_samples
    yield Check(corpus.name, "form", " or ".join(corpus.layouts), corpus.form)
    yield from _clips(corpus, samples)
    yield from _folders(corpus, samples)
    expected = corpus.edition(len(samples))
    if expected is not None:
        yield from counted(corpus.name, samples, expected)
    yield from _irregularities(corpus, samples)
    if pictures:
        yield opened(corpus, samples)


def _clips(corpus: PictureCorpus, samples: Sequence[Sample]) -> Iterator[Check]:
    """Which clips are there, and whole; what a known irregularity explains is not wrong."""
    absent = [s for s in samples if UNUSABLE in s.flags]
    found = len(samples) - len(absent)
    yield Check(corpus.name, "clips found", str(len(samples)), str(found), not absent)
    yield Check(corpus.name, "clips missing", "0", str(len(absent)), not absent, by_subject(absent))
    for what, flag in (
        ("clips truncated", "frames_truncated"),
        ("clips with gaps", "frames_with_gaps"),
        ("clips with a number twice", "frames_twice"),
    ):
        odd = [s for s in samples if flag in s.flags]
        known = [k for k in corpus.known if k.flag == flag and k.form in ("", corpus.form)]
        unknown = [s for s in odd if not any(k.is_of(s) for k in known)]
        excused = bool(corpus.lossy) and flag != "frames_twice"
        note = "; ".join([corpus.lossy] * (excused and bool(odd)) + [by_subject(odd)] * bool(odd))
        expected = "any" if excused else str(len(odd) - len(unknown))
        yield Check(corpus.name, what, expected, str(len(odd)), excused or not unknown, note)


def _folders(corpus: PictureCorpus, samples: Sequence[Sample]) -> Iterator[Check]:
    """Folders and files that belong to no clip."""
    known = {corpus.place(*names) for names in corpus.known_extra}
    extra = sorted(set(corpus.folders) - {corpus.place_of(s) for s in samples})
    expected = str(len(known.intersection(extra))) if known else "any"
    names = ", ".join("/".join(place) for place in extra)
    fine = not known or known.issuperset(extra)
    yield Check(corpus.name, "folders that no row is about", expected, str(len(extra)), fine, names)
    strays = _strays(corpus)
    listed = ", ".join(f"{name} {times}" for name, times in sorted(Counter(strays).items()))
    yield Check(corpus.name, "files in clips' folders that are no frame", "any", str(len(strays)), True, listed)
    empty = corpus.tree.empty()
    yield Check(corpus.name, "empty folders", "any", str(len(empty)), True, ", ".join(empty))
    refused = [path or "." for path in corpus.tree.refused]
    what = "folders that cannot be opened"
    yield Check(corpus.name, what, "0", str(len(refused)), not refused, ", ".join(refused))


def _strays(corpus: PictureCorpus) -> list[str]:
    listed = corpus.tree.folders
    strays: list[str] = []
    for folder in corpus.folders.values():
        frames = {name for _, name in folder.pictures}
        strays += [name for name in listed[corpus.tree.path_of(folder.path)] if name not in frames]
    return strays


def _irregularities(corpus: PictureCorpus, samples: Sequence[Sample]) -> Iterator[Check]:
    """Those that are known, one line each, and how many clips carry each flag."""
    for known in corpus.known:
        if known.form in ("", corpus.form):
            flags = [s.flags for s in samples if known.is_of(s)]
            there = any(known.flag in f or not known.flag for f in flags)
            repaired = bool(flags) and not known.flag.startswith("frames_")
            found = "found" if there else "mended" if repaired else "not there"
            what = f"{known.subject}/{known.clip}: {known.flag or known.what}"
            yield Check(corpus.name, what, "found", found, True, known.what)
    for flag, number in sorted(Counter(flag for s in samples for flag in s.flags).items()):
        if not flag.startswith("frames_"):
            yield Check(corpus.name, f"clips with {flag}", "any", str(number), True, FLAGS.get(flag, ""))


def _or_unknown(value: object) -> str:
    return "not known here" if value is None else str(value)
