"""What a copy of a corpus holds beside what its owners and their papers say, without showing any of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mer_zoo.datasets._annotated import PictureCorpus, SheetCorpus, by_subject
from mer_zoo.datasets._base import VERIFIED
from mer_zoo.datasets._tables import digest_of
from mer_zoo.datasets._tree import shown
from mer_zoo.errors import CorpusError
from mer_zoo.types import UNUSABLE, Counts, Sample

if TYPE_CHECKING:
    import pandas as pd

Line = dict[str, Any]


def verify_pictures(corpus: PictureCorpus, pictures: bool = False) -> "pd.DataFrame":
    """See ``PictureCorpus.verify``.

    Raises:
        CorpusError: If the folder holds no sheet, or one that cannot be read.
    """
    import pandas as pd

    samples = corpus.found_samples
    lines = [*_sheet(corpus), *_files(corpus, samples), *_counts(corpus, samples), *_irregularities(corpus, samples)]
    if pictures:
        lines.append(_pictures(corpus, samples))
    return pd.DataFrame([{"corpus": corpus.name, **line} for line in lines], columns=VERIFIED)


def _line(what: str, expected: object, found: object, ok: bool, note: str = "") -> Line:
    return {"what": what, "expected": str(expected), "found": str(found), "ok": ok, "note": note}


def _sheet(corpus: PictureCorpus) -> Iterator[Line]:
    if not isinstance(corpus, SheetCorpus):
        return
    file = corpus.sheet_file
    yield _line("sheet", "one", shown(file.name), True, f"sha256 {digest_of(file)}")
    rows = len(corpus.rows)
    yield _line("rows of the sheet", "any", rows, True, f"{rows - len(corpus.found_samples)} of them are no clip")
    for fix in corpus.fixes:
        outcome = corpus.outcome.get(fix, "not there")
        fine = outcome in ("mended", "right already", "not there")
        what = f"{fix.subject}/{fix.clip}: {fix.column} {fix.was} is {fix.now}"
        yield _line(what, "mended", outcome, fine, fix.why)


def _files(corpus: PictureCorpus, samples: Sequence[Sample]) -> Iterator[Line]:
    yield _line("form", " or ".join(corpus.layouts), corpus.form, True)
    absent = [s for s in samples if UNUSABLE in s.flags]
    yield _line("clips found", len(samples), len(samples) - len(absent), not absent)
    yield _line("clips missing", 0, len(absent), not absent, by_subject(absent))
    known = {(k.subject, k.clip) for k in corpus.known if k.flag == "frames_truncated"}
    cut = [s for s in samples if "frames_truncated" in s.flags]
    unknown = [s for s in cut if not {(s.subject, s.clip), ("*", "*")} & known]
    yield _line("clips truncated", len(cut) - len(unknown), len(cut), not unknown, by_subject(cut))
    gaps = [s for s in samples if "frames_with_gaps" in s.flags]
    yield _line("clips with gaps", "any", len(gaps), True, by_subject(gaps))
    twice = [s for s in samples if "frames_twice" in s.flags]
    yield _line("clips with a frame twice", 0, len(twice), not twice, by_subject(twice))
    used = {corpus.place_of(s) for s in samples}
    extra = sorted("/".join(place) for place in set(corpus.folders) - used)
    expected = [extra_clip for extra_clip in extra if tuple(extra_clip.split("/")) in _places(corpus)]
    yield _line("folders that no row is about", len(expected), len(extra), True, ", ".join(extra))
    refused = [shown(path) or "." for path in corpus.tree.refused]
    yield _line("folders that cannot be opened", 0, len(refused), not refused, ", ".join(refused))


def _places(corpus: PictureCorpus) -> set[tuple[str, ...]]:
    return {corpus.place(subject, clip) for subject, clip in corpus.known_extra}


def _counts(corpus: PictureCorpus, samples: Sequence[Sample]) -> Iterator[Line]:
    expected = corpus.edition(len(samples))
    if expected is None:
        return
    found = Counts.of(list(samples), [s.emotion for s in samples])
    yield _line("clips", expected.clips, found.clips, expected.clips == found.clips)
    persons = expected.subjects
    yield _line("persons", persons or "not published", found.subjects, persons in (None, found.subjects))
    for name in {**expected.classes, **(found.classes if expected.classes else {})}:
        numbers = expected.classes.get(name, 0), found.classes.get(name, 0)
        yield _line(name, *numbers, numbers[0] == numbers[1])
    if not expected.classes:
        yield _line("labels", "not published", dict(found.classes), True)


def _irregularities(corpus: PictureCorpus, samples: Sequence[Sample]) -> Iterator[Line]:
    """Those that are known, one line each, and how many clips carry each flag."""
    for known in corpus.known:
        if "*" not in (known.subject, known.clip):
            flags = [s.flags for s in samples if (s.subject, s.clip) == (known.subject, known.clip)]
            found = "found" if any(known.flag in f for f in flags) else "mended already" if flags else "not there"
            yield _line(f"{known.subject}/{known.clip}: {known.flag}", "found", found, True, known.what)
    for flag, number in sorted(Counter(flag for s in samples for flag in s.flags).items()):
        if not flag.startswith("frames_"):
            clips = by_subject([s for s in samples if flag in s.flags])
            yield _line(f"clips with {flag}", "any", number, True, clips)


def _pictures(corpus: PictureCorpus, samples: Sequence[Sample]) -> Line:
    complaints = [_complaint(corpus, s) for s in samples if UNUSABLE not in s.flags]
    broken = [complaint for complaint in complaints if complaint]
    return _line("clips with unreadable pictures", 0, len(broken), not broken, " ".join(broken))


def _complaint(corpus: PictureCorpus, sample: Sample) -> str:
    try:
        corpus.clip(sample)
    except CorpusError as error:
        return str(error)
    return ""
