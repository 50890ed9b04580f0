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
from mer_zoo.types import UNUSABLE, Counts, Sample

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
    """Lines as a table, one column an attribute."""
    import pandas as pd

    return pd.DataFrame([asdict(check) for check in checks], columns=list(Check.__dataclass_fields__))


def as_text(table: "pd.DataFrame") -> str:
    """A table of lines to print: what is wrong stands out, notes at the end of the line."""
    width = max((len(what) for what in table["what"]), default=0)
    lines = []
    for row in table.itertuples():
        numbers = row.found if row.ok or row.expected == row.found else f"{row.found}, expected {row.expected}"
        note = f"  ({shown(row.note)})" if row.note else ""
        lines.append(f"{'ok   ' if row.ok else 'WRONG'}  {row.corpus}  {row.what:{width}}  {shown(numbers)}{note}")
    wrong = int((~table["ok"].astype(bool)).sum())
    return "\n".join([*lines, f"{wrong} of {len(table)} lines are wrong." if wrong else "Nothing is wrong."])


def counted(corpus: str, samples: Sequence[Sample], expected: Counts) -> Iterator[Check]:
    """Clips, persons and clips of each emotion beside the published counts."""

    def line(what: str, wanted: object, found: object, ok: bool) -> Check:
        return Check(corpus, what, str(wanted), str(found), ok)

    found = Counts.of(list(samples), [s.emotion for s in samples])
    yield line("clips", expected.clips, found.clips, expected.clips == found.clips)
    persons = expected.subjects
    yield line("persons", persons or "not published", found.subjects, persons in (None, found.subjects))
    for name in {**expected.classes, **found.classes}:
        wanted = expected.classes.get(name, 0)
        number = found.classes.get(name, 0)
        known = bool(expected.classes)
        yield line(f"clips of {name}", wanted if known else "not published", number, not known or wanted == number)


def opened(corpus: Corpus, samples: Sequence[Sample]) -> Check:
    """Whether every picture can be read."""
    broken = [complaint for s in samples if UNUSABLE not in s.flags and (complaint := _complaint(corpus, s))]
    what = "clips with unreadable pictures"
    return Check(corpus.name, what, "0", str(len(broken)), not broken, " ".join(broken))


def _complaint(corpus: Corpus, sample: Sample) -> str:
    try:
        _ = corpus.clip(sample) if corpus.native_spec is None else corpus.flow_image(sample)
    except CorpusError as error:
        return str(error)
    return ""


def checks_of_pictures(corpus: PictureCorpus, pictures: bool) -> Iterator[Check]:
    """Sheet, files, counts and irregularities of a corpus of pictures."""
    samples = corpus.found_samples
    if isinstance(corpus, SheetCorpus):
        yield from _sheet(corpus)
    yield from _files(corpus, samples)
    expected = corpus.edition(len(samples))
    if expected is not None:
        yield from counted(corpus.name, samples, expected)
    yield from _irregularities(corpus, samples)
    if pictures:
        yield opened(corpus, samples)


def _sheet(corpus: SheetCorpus) -> Iterator[Check]:
    for file in corpus.sheet_files:
        yield Check(corpus.name, "sheet", "one", shown(file.name), True, f"sha256 {digest_of(file)}")
    rows, used = len(corpus.rows), sum(corpus.names(row) is not None for row in corpus.rows)
    yield Check(corpus.name, "rows of the sheet", "any", str(rows), True, f"{rows - used} are about no clip")
    for fix in corpus.fixes:
        outcome = corpus.outcome.get(fix, "not there")
        fine = outcome in ("mended", "right already", "not there")
        what = f"{fix.subject}/{fix.clip}: {fix.column} {fix.was} is {fix.now}"
        yield Check(corpus.name, what, "mended", outcome, fine, fix.why)


def _files(corpus: PictureCorpus, samples: Sequence[Sample]) -> Iterator[Check]:
    def line(what: str, expected: object, found: Sequence[object], ok: bool, note: str) -> Check:
        return Check(corpus.name, what, str(expected), str(len(found)), ok, note)

    def flagged(flag: str) -> list[Sample]:
        return [s for s in samples if flag in s.flags]

    yield Check(corpus.name, "form", " or ".join(corpus.layouts), corpus.form)
    absent = flagged(UNUSABLE)
    there = [s for s in samples if UNUSABLE not in s.flags]
    yield line("clips found", len(samples), there, not absent, "")
    yield line("clips missing", 0, absent, not absent, by_subject(absent))
    known = {(k.subject, k.clip) for k in corpus.known if k.flag == "frames_truncated"}
    cut = flagged("frames_truncated")
    unknown = [s for s in cut if (s.subject, s.clip) not in known]
    note = f"{corpus.lossy}: {by_subject(cut)}" if cut and corpus.lossy else by_subject(cut)
    yield line("clips truncated", len(cut) - len(unknown), cut, bool(corpus.lossy) or not unknown, note)
    gaps, twice = flagged("frames_with_gaps"), flagged("frames_twice")
    yield line("clips with gaps", "any", gaps, True, by_subject(gaps))
    yield line("clips with a number twice", 0, twice, not twice, by_subject(twice))
    known_extra = {corpus.place(*names) for names in corpus.known_extra}
    extra = sorted(set(corpus.folders) - {corpus.place_of(s) for s in samples})
    expected = len(known_extra.intersection(extra))
    yield line("folders that no row is about", expected, extra, True, ", ".join("/".join(place) for place in extra))
    yield line("files in clips' folders that are no frame", "any", *_strays(corpus))
    refused = [shown(path) or "." for path in corpus.tree.refused]
    yield line("folders that cannot be opened", 0, refused, not refused, ", ".join(refused))


def _strays(corpus: PictureCorpus) -> tuple[list[str], bool, str]:
    """Such files, that they do no harm, and their names with how often each comes."""
    listed = corpus.tree.folders
    strays: list[str] = []
    for folder in corpus.folders.values():
        frames = {name for _, name in folder.pictures}
        strays += [name for name in listed[corpus.tree.path_of(folder.path)] if name not in frames]
    names = ", ".join(f"{shown(name)} {times}" for name, times in sorted(Counter(strays).items()))
    return strays, True, names


def _irregularities(corpus: PictureCorpus, samples: Sequence[Sample]) -> Iterator[Check]:
    """Those that are known, one line each, and how many clips carry each flag."""
    for known in corpus.known:
        flags = [s.flags for s in samples if (s.subject, s.clip) == (known.subject, known.clip)]
        found = "found" if any(known.flag in f for f in flags) else "mended" if flags else "not there"
        what = f"{known.subject}/{known.clip}: {known.flag}"
        yield Check(corpus.name, what, "found", found, True, known.what)
    for flag, number in sorted(Counter(flag for s in samples for flag in s.flags).items()):
        if not flag.startswith("frames_"):
            clips = by_subject([s for s in samples if flag in s.flags])
            yield Check(corpus.name, f"clips with {flag}", "any", str(number), True, clips)
