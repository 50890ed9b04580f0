"""One contract for every corpus, and the forms of the flow release."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mer_zoo
from mer_zoo.datasets import open_corpus
from mer_zoo.datasets._base import CORPORA, Corpus, register_corpus
from mer_zoo.datasets.megc2019_flow import MEGC2019Flow
from mer_zoo.datasets.synthetic_flow import SyntheticFlow
from mer_zoo.errors import CorpusError, InputError, UnknownNameError
from mer_zoo.preprocessing.flow import flow_image, strain
from mer_zoo.synth.emotions import MIEX, NEGATIVE
from mer_zoo.types import ActionUnit

FORMS = ("folder", "tree", "npz")


KINDS = {name: CORPORA.get(name) for name in mer_zoo.list_corpora()}
READ = [(name, "read") for name, kind in KINDS.items() if kind.needs_root or kind.folder_form]
MADE = [(name, "made") for name, kind in KINDS.items() if not kind.needs_root]


@pytest.fixture(scope="module", params=READ + MADE, ids="-".join)
def specimen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    name, how = request.param
    folder = tmp_path_factory.mktemp(name)
    KINDS[name].write_specimen(folder)
    return open_corpus(name, folder if how == "read" else None)


def test_a_specimen_reads_back(specimen: Corpus) -> None:
    assert len({s.key for s in specimen.samples}) == len(specimen.samples) > 0
    assert len({s.person for s in specimen.samples}) >= 2
    for sample in specimen.samples[:3]:
        raw = specimen.native_spec is None
        image = specimen.clip(sample)[0] if raw else specimen.flow_image(sample)
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,) or (raw and image.ndim == 2)
        assert specimen.fingerprint(sample)


def test_a_corpus_says_whence_and_how_many(specimen: Corpus) -> None:
    assert type(specimen).title in specimen.how_to_obtain
    assert list(specimen.verify()) == ["corpus", "what", "expected", "found", "ok", "note"]


def test_flow_corpora_have_no_frames_and_others_no_flow_images(specimen: Corpus) -> None:
    lacking = (specimen.frames, specimen.clip) if specimen.native_spec else (specimen.flow_image,)
    for method in lacking:
        with pytest.raises(CorpusError, match="holds no frames" if specimen.native_spec else "holds no flow images"):
            method(specimen.samples[0])


def test_every_corpus_of_files_says_how_to_obtain_it_when_the_folder_is_missing() -> None:
    for name, _ in READ:
        with pytest.raises(CorpusError, match=r"(?s)does not exist.*Terms:"):
            open_corpus(name, "/no/such/folder")
        if KINDS[name].needs_root:
            with pytest.raises(CorpusError, match=r"(?s)no folder was given.*Terms:"):
                open_corpus(name)


def test_unknown_options_are_refused(flow_release: Path) -> None:
    with pytest.raises(InputError, match="synthetic_flow takes no option colour; it takes subjects, clips_per_subject"):
        open_corpus("synthetic_flow", colour=3)
    with pytest.raises(InputError, match="megc2019_flow takes no option subjects; it takes listing"):
        open_corpus("megc2019_flow", flow_release, subjects=3)


def test_unknown_and_taken_names() -> None:
    for name, meant in (("syntheticflow", "synthetic_flow"), ("CASME2", "casme2"), ("SAMM", "samm")):
        with pytest.raises(UnknownNameError, match=f"Did you mean {meant}"):
            open_corpus(name)
    with pytest.raises(ValueError, match="exists already"):
        register_corpus(SyntheticFlow)


# The flow release


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_the_flow_release_are_one_corpus(form: str, tmp_path: Path, flow_release: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path / form, form)
    expected, corpus = open_corpus("megc2019_flow", flow_release), open_corpus("megc2019_flow", tmp_path / form)
    assert {s.key: s for s in corpus.samples} == {s.key: s for s in expected.samples}
    for sample in expected.samples:
        np.testing.assert_array_equal(corpus.flow_image(sample), expected.flow_image(sample))


def test_samples_of_the_flow_release_say_whose_they_are(flow_release: Path) -> None:
    samples = {s.key: s for s in open_corpus("megc2019_flow", flow_release).samples}
    assert len(samples) == 36
    assert {s.corpus for s in samples.values()} == {"smic", "casme2", "samm"}
    assert samples["samm/006/006_1_2"].emotion == "positive"  # its file is named "006_006_1_2 .png"
    assert samples["smic/s3/s3_ne_01"].emotion == "negative"  # the list says s03, s03_ne_01
    assert len({s.person for s in samples.values()}) == 6


def test_the_pictures_may_be_opened_below_the_list(flow_release: Path) -> None:
    assert len(open_corpus("megc2019_flow", flow_release / "flow").samples) == 36


def test_the_tree_is_read_once_though_every_image_lies_there_often(tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path, "tree")
    assert len(list(tmp_path.rglob("*.png"))) == 6 * 36
    assert len(open_corpus("megc2019_flow", tmp_path).samples) == 36


def test_channels_come_in_the_order_u_v_strain(tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path, "folder")
    picture = np.zeros((28, 28, 3), np.uint8)
    picture[..., 0], picture[..., 2] = 10, 30
    Image.fromarray(picture).save(tmp_path / "flow" / "sub01_EP01_01f.png")
    corpus = open_corpus("megc2019_flow", tmp_path)
    sample = next(s for s in corpus.samples if s.key == "casme2/sub01/EP01_01f")
    assert corpus.flow_image(sample)[0, 0].tolist() == [10, 0, 30]


def _list_of(folder: Path) -> Path:
    return folder / "combined_3class_gt.csv"


def test_a_list_with_a_header_is_read_by_its_names(tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path)
    with _list_of(tmp_path).open(newline="") as text:
        rows = [row for row in csv.reader(text) if any(row)]
    with _list_of(tmp_path).open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["", "label", "sub", "filename_o", "dataset", "onset"])
        writer.writerows(["0", label, subject, file, corpus, "7"] for corpus, subject, file, label in rows)
    assert len(open_corpus("megc2019_flow", tmp_path).samples) == 36


def _empty(folder: Path) -> None:
    shutil.rmtree(folder / "flow")


def _without_list(folder: Path) -> None:
    _list_of(folder).unlink()


def _two_lists(folder: Path) -> None:
    shutil.copy(_list_of(folder), folder / "other.csv")


def _bad_row(folder: Path) -> None:
    with _list_of(folder).open("a") as text:
        text.write("casme3,sub01,x,0\n")


def _bad_header(folder: Path) -> None:
    _list_of(folder).write_text("dataset,person,file,label\n")


def _unlisted(folder: Path) -> None:
    shutil.copy(next(folder.glob("flow/*.png")), folder / "flow" / "sub99_EP01_01.png")


def _two_pictures(folder: Path) -> None:
    (folder / "flow" / "zz").mkdir()
    shutil.copy(folder / "flow" / "sub01_EP01_01f.png", folder / "flow" / "zz" / "sub01_EP01_01f.png")


def _padded(folder: Path) -> None:
    """One file of a person written otherwise than the rest: two persons, each learnt from when the other is tested."""
    (folder / "flow" / "s3_s3_sur_06.png").rename(folder / "flow" / "s03_s03_sur_06.png")


def _twice(folder: Path) -> None:
    with _list_of(folder).open("a") as text:
        text.write("casme2,sub01,EP01_01f,0\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_empty, "No clip found: .* holds no PNG file; expected PNG files beside a csv, a tree"),
        (_without_list, "no csv; expected the list dataset,subject,file,label.*listing="),
        (_two_lists, "other.csv"),
        (_bad_row, "row 37: .*expected dataset,subject,file,label"),
        (_two_pictures, "Two pictures are one clip: .*sub01_EP01_01f.png"),
        (_padded, "One person of smic is written 's3' and 's03'"),
        (_bad_header, r"expected one for subject, such as 'subject'"),
        (_unlisted, r"1 pictures .* not in the list of 36 clips: \['sub99_EP01_01.png'\]"),
        (_twice, "names 1 clips twice"),
    ],
)
def test_a_spoilt_flow_release_is_an_error(spoil: Any, words: str, tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path)
    spoil(tmp_path)
    with pytest.raises(CorpusError, match=words):
        _ = open_corpus("megc2019_flow", tmp_path).samples


@pytest.mark.parametrize("size", [(28, 20), (56, 56)])
def test_a_picture_of_another_size_is_named(size: tuple[int, int], tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path)
    Image.new("RGB", size).save(tmp_path / "flow" / "sub01_EP01_01f.png")
    corpus = open_corpus("megc2019_flow", tmp_path)
    with pytest.raises(CorpusError, match=r"sub01_EP01_01f.png has shape .*expected \(28, 28, 3\)"):
        corpus.flow_image(next(s for s in corpus.samples if s.clip == "EP01_01f"))


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path)
    file = tmp_path / "flow" / "sub01_EP01_01f.png"
    file.write_bytes(file.read_bytes()[:60])
    corpus = open_corpus("megc2019_flow", tmp_path)
    with pytest.raises(CorpusError, match=r"casme2/sub01/EP01_01f: .*no readable picture"):
        corpus.flow_image(next(s for s in corpus.samples if s.clip == "EP01_01f"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": None}, r"expected image \(N, 28, 28, 3\) of uint8, label"),
        ({"label": np.zeros(5, int)}, r"int64 \(5,\).*expected image"),
        ({"label": np.zeros(36)}, "label.*float64.*expected image"),
        ({"label": np.array(3)}, "expected image"),
        ({"subject": np.arange(36)}, "subject.*int64.*corpus, subject, clip .* of text"),
        ({"label": np.full(36, 7)}, "label 7"),
        ({"corpus": np.full(36, "casme3")}, "corpus 'casme3'"),
        ({"image": np.zeros((36, 28, 28, 3), np.float32)}, r"float32 \(36, 28, 28, 3\).*of uint8"),
        ({"image": np.zeros((36, 28, 20, 3), np.uint8)}, r"expected \(28, 28, 3\), uint8"),
        ({"subject": np.array([object()] * 36)}, "cannot be read"),
    ],
)
def test_a_spoilt_npz_is_an_error(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path, "npz")
    with np.load(tmp_path / "flow.npz") as saved:
        arrays = {**saved, **change}
    np.savez(tmp_path / "flow.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(CorpusError, match=words):
        _ = open_corpus("megc2019_flow", tmp_path / "flow.npz").samples


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_broken_npz_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "flow.npz").write_bytes(content)
    with pytest.raises(CorpusError, match=r"cannot be read as an \.npz file"):
        _ = open_corpus("megc2019_flow", tmp_path).samples


def test_an_array_named_npz_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "flow.npy", np.zeros(3))
    (tmp_path / "flow.npy").rename(tmp_path / "flow.npz")
    with pytest.raises(CorpusError, match=r"flow\.npz"):
        _ = open_corpus("megc2019_flow", tmp_path).samples


@pytest.mark.parametrize("form", FORMS)
def test_what_file_managers_leave_and_one_folder_more_do_no_harm(form: str, tmp_path: Path) -> None:
    inner = tmp_path / "unpacked" / "again"
    MEGC2019Flow.write_specimen(inner, form)
    for folder in [inner, *(f for f in inner.rglob("*") if f.is_dir())]:
        for name in (".DS_Store", "._x.png", "._list.csv", "._flow.npz", "Thumbs.db"):
            (folder / name).write_bytes(b"\x00\x05\x16\x07")
    assert len(open_corpus("megc2019_flow", tmp_path / "unpacked").samples) == 36


def test_upper_case_endings_are_pictures_too(tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path)
    for file in (tmp_path / "flow").glob("sub*.png"):
        file.rename(file.with_suffix(".PNG"))
    assert len(open_corpus("megc2019_flow", tmp_path).samples) == 36


def test_the_list_may_lie_elsewhere(tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path / "release")
    pictures = tmp_path / "code" / "datasets" / "flow"
    pictures.parent.mkdir(parents=True)
    (tmp_path / "release" / "flow").rename(pictures)
    with pytest.raises(CorpusError, match=r"pass listing='PATH' to open_corpus"):
        _ = open_corpus("megc2019_flow", pictures).samples
    corpus = open_corpus("megc2019_flow", pictures, listing=_list_of(tmp_path / "release"))
    assert len(corpus.samples) == 36


def test_other_tables_beside_the_list_are_passed_over(tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path)
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    assert len(open_corpus("megc2019_flow", tmp_path).samples) == 36


def test_listed_clips_without_a_picture_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    MEGC2019Flow.write_specimen(tmp_path)
    for file in (tmp_path / "flow").glob("0*.png"):
        file.unlink()
    assert len(open_corpus("megc2019_flow", tmp_path).samples) == 24
    assert "12 clips of the list have no picture" in caplog.text
    assert "{'samm': 12}" in caplog.text


def test_a_foreign_sample_is_refused(flow_release: Path) -> None:
    corpus = open_corpus("megc2019_flow", flow_release)
    with pytest.raises(CorpusError, match="take samples of this corpus"):
        corpus.flow_image(open_corpus("synthetic_flow").samples[0])


def test_another_file_is_no_flow_release(tmp_path: Path) -> None:
    (tmp_path / "flow.mat").write_bytes(b"MATLAB")
    with pytest.raises(CorpusError, match=r"is not an .npz file"):
        _ = open_corpus("megc2019_flow", tmp_path / "flow.mat").samples


def test_verify_finds_what_is_missing(flow_release: Path) -> None:
    table = open_corpus("megc2019_flow", flow_release).verify()
    row = table[(table["corpus"] == "smic") & (table["what"] == "clips")].iloc[0]
    assert (row["expected"], row["found"], bool(row["ok"])) == ("164", "12", False)


# The synthetic flow


def test_a_clip_is_the_same_alone_and_among_others() -> None:
    small, large = open_corpus("synthetic_flow", subjects=2), open_corpus("synthetic_flow", subjects=9)
    for sample in small.samples:
        assert sample in large.samples
        np.testing.assert_array_equal(small.flow_image(sample), large.flow_image(sample))


def test_other_seeds_are_other_persons() -> None:
    one, other = (open_corpus("synthetic_flow", subjects=2, seed=seed) for seed in (0, 1))
    assert not {s.person for s in one.samples} & {s.person for s in other.samples}
    assert not np.array_equal(one.flow_image(one.samples[0]), other.flow_image(other.samples[0]))


def test_labels_follow_from_action_units() -> None:
    corpus = open_corpus("synthetic_flow", subjects=40)
    for sample in corpus.samples:
        units = {unit.number for unit in sample.aus}
        assert len(units - set(MIEX[sample.emotion])) <= 1  # at most one stray unit
        assert {u for u, p in MIEX[sample.emotion].items() if p == 1.0} <= units
    emotions = [s.emotion for s in corpus.samples]
    assert emotions.count("happiness") == emotions.count("surprise") == len(emotions) / 3
    assert set(NEGATIVE) == set(emotions) - {"happiness", "surprise"}


def test_a_brow_that_rises_moves_upwards_and_a_smile_outwards() -> None:
    """u to the right, v downwards; the picture shows the face as a camera does."""
    corpus: Any = open_corpus("synthetic_flow", subjects=60)
    mean = {
        unit: np.mean([corpus.flow(s) for s in corpus.samples if ActionUnit(unit) in s.aus], axis=0)
        for unit in (1, 12, 26)
    }
    brow, mouth_left, mouth_right, chin = np.s_[2:6, 9:19], np.s_[19:23, 6:11], np.s_[19:23, 17:22], np.s_[24:, 10:18]
    assert mean[1][brow][..., 1].mean() < -0.05
    assert mean[12][mouth_left][..., 0].mean() < -0.02
    assert mean[12][mouth_right][..., 0].mean() > 0.02
    assert mean[26][chin][..., 1].mean() > 0.05


def test_a_person_and_its_first_clip_draw_from_different_streams() -> None:
    """numpy fills a seed that is too short with zeros, so lengths alone do not part two streams."""
    from mer_zoo.datasets import synthetic_flow

    seeds = {(0, 5, 0, part) for part in (synthetic_flow.LABEL, synthetic_flow.PERSON, synthetic_flow.MOTION)}
    assert len({float(np.random.default_rng(seed).random()) for seed in seeds}) == 3


@pytest.mark.parametrize(
    "options", [{"subjects": 1}, {"clips_per_subject": 2}, {"seed": -1}, {"subjects": 2.5}, {"subjects": "3"}]
)
def test_synthetic_flow_refuses(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"synthetic_flow: {next(iter(options))} is .*expected a whole number"):
        open_corpus("synthetic_flow", **options)
    with pytest.raises(CorpusError, match="leave the folder out"):
        open_corpus("synthetic_flow", "/tmp")


def test_a_sample_of_another_corpus_is_refused() -> None:
    one, other = (open_corpus("synthetic_flow", subjects=2, seed=seed) for seed in (0, 1))
    with pytest.raises(CorpusError, match="is not in this synthetic_flow"):
        one.flow_image(other.samples[0])


# Strain and the image made of flow


def test_strain_of_known_fields() -> None:
    """A stretch of 10 %, a shear of 10 %, a turn and a shift: 0.1, 0.1 / sqrt(2), 0 and 0."""
    y, x = np.mgrid[:12, :12].astype(np.float32)
    zero = np.zeros_like(x)
    for u, v, expected in (
        (0.1 * x, zero, 0.1),
        (zero, 0.1 * y, 0.1),
        (0.1 * y, zero, 0.1 / np.sqrt(2)),
        (0.1 * y, -0.1 * x, 0.0),
        (zero + 3, zero - 2, 0.0),
    ):
        np.testing.assert_allclose(strain(np.stack([u, v], axis=-1)), expected, atol=1e-6)


def test_flow_image_stretches_each_channel() -> None:
    flow = np.random.default_rng(0).normal(size=(28, 28, 2)).astype(np.float32)
    image = flow_image(flow)
    assert image.reshape(-1, 3).min(axis=0).tolist() == [0, 0, 0]
    assert image.reshape(-1, 3).max(axis=0).tolist() == [255, 255, 255]
    assert np.unravel_index(image[..., 0].argmax(), (28, 28)) == np.unravel_index(flow[..., 0].argmax(), (28, 28))
    assert not flow_image(np.zeros((28, 28, 2), np.float32)).any()
    for bad in (np.zeros((28, 28)), np.zeros((28, 28, 3)), np.full((28, 28, 2), np.nan)):
        with pytest.raises(InputError, match=r"expected \(H, W, 2\)"):
            flow_image(bad)
