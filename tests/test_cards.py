"""Model cards: what the Hub reads of them, and what people do."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard

import mer_zoo
from mer_zoo.cards import Result, licensed_corpora, make_card
from mer_zoo.errors import InputError, WeightsError

CITATION = (Path(__file__).parent.parent / "CITATION.cff").read_text()
RESULTS = (
    Result(
        "synthetic faces, family field",
        "40 new persons, 960 clips",
        "last epoch; nothing was chosen on test persons",
        {"uf1": [0.8, 0.82, 0.84], "uar": [0.9, 0.9, 0.9]},
        {"majority": {"uf1": 0.2, "uar": 1 / 3}, "chance": {"uar": 1 / 3}},
        "The family was not trained on.",
    ),
    Result("SMIC", "all persons, zero-shot", "last epoch; nothing was chosen on test persons", {"uf1": [0.72]}),
)


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """Of a saved flow network."""
    return _config("ststnet", tmp_path, ("negative", "positive", "surprise"), ["synthetic_flow/1", "synthetic_flow/2"])


def _config(name: str, folder: Path, classes: tuple[str, ...], trained_on: list[str]) -> dict[str, Any]:
    model = mer_zoo.create_model(name, num_classes=len(classes))
    mer_zoo.save_pretrained(model, folder, classes=classes, trained_on=trained_on)
    return dict(json.loads((folder / "config.json").read_text()))


def test_the_hub_reads_the_numbers_back(config: dict[str, Any]) -> None:
    card: Any = ModelCard(make_card(config, repo="me/x", results=RESULTS))
    entries: list[EvalResult] = card.data.eval_results
    read = {(e.dataset_name, e.dataset_split, e.metric_type): e for e in entries}
    uf1 = read["synthetic faces, family field", "40 new persons, 960 clips", "uf1"]
    assert uf1.metric_value == 0.8
    assert uf1.metric_config == "of these weights; 0.820 ± 0.020 over 3 seeds"
    assert uf1.dataset_config == "epoch: last epoch; nothing was chosen on test persons"
    assert read["SMIC", "all persons, zero-shot", "uf1"].metric_config == "one seed"
    assert len(entries) == len(read) == 3


@pytest.mark.parametrize(
    ("name", "task"), [("ststnet", "image-classification"), ("dat_densenet3d", "video-classification")]
)
def test_the_front_matter_says_what_the_hub_sorts_by(name: str, task: str, tmp_path: Path) -> None:
    card: Any = ModelCard(make_card(_config(name, tmp_path, ("a", "b"), ["synthetic/1-*"]), repo="me/x"))
    data = card.data
    assert (data.library_name, data.license, data.pipeline_tag) == ("mer-zoo", "mit", task)
    assert {"micro-expression", "facial-expression", "timm", "pytorch", name} <= set(data.tags)
    assert data.eval_results is None


def test_a_card_survives_being_read_and_written(config: dict[str, Any]) -> None:
    card: Any = ModelCard(make_card(config, results=RESULTS))
    again: Any = ModelCard(str(card))
    assert again.data.to_dict() == card.data.to_dict()
    assert again.text == card.text


def test_its_code_is_what_loads_the_weights(config: dict[str, Any]) -> None:
    text = make_card(config, repo="zoo/ststnet.synth_3")
    (code,) = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
    assert code == 'import mer_zoo\n\nmodel = mer_zoo.create_model("hf-hub:zoo/ststnet.synth_3", pretrained=True)'
    assert "```sh\npip install mer-zoo\n```" in text
    assert "\n# ststnet.synth_3\n" in text


def test_it_says_what_the_network_eats(tmp_path: Path) -> None:
    flow = make_card(_config("ststnet", tmp_path / "flow", ("a", "b"), []))
    for row in ("`flow`: optical flow", "| strain, v, u |", "28 x 28 pixels", "| 0 to 255 |", "| `channel_min_max` |"):
        assert row in flow
    assert "| optical flow by | `tvl1` |" in flow
    assert "(B, 3, 28, 28)" in flow
    clip = make_card(_config("dat_densenet3d", tmp_path / "clip", ("a", "b"), []))
    spec = mer_zoo.input_spec("dat_densenet3d")
    assert f"(B, {', '.join(map(str, spec.shape))})" in clip
    assert f"| gain | {spec.gain:g} |" in clip
    assert "optical flow by" not in clip


def test_it_says_whether_a_clip_may_have_several_classes(tmp_path: Path) -> None:
    one = make_card(_config("ststnet", tmp_path / "one", ("positive", "negative"), []))
    assert "2 classes: a clip has exactly one of them (a softmax over logits). In the order of the logits: pos" in one
    units = make_card(_config("ststnet", tmp_path / "units", ("AU1", "AU12"), []))
    assert "2 action units: a clip may have several of them, or none (a sigmoid for each logit)." in units
    assert "No names were saved" in make_card(_config("ststnet", tmp_path / "none", (), []))


def test_it_says_what_the_weights_have_seen(tmp_path: Path) -> None:
    persons = [f"synthetic/1-{i:02}" for i in range(12)]
    made_up = make_card(_config("ststnet", tmp_path / "a", ("a", "b"), persons), training="AdamW, 20 epochs.")
    assert "- synthetic: 12 entries: synthetic/1-00, synthetic/1-01," in made_up
    assert "synthetic/1-09, …\n" in made_up
    assert "All of it is made up; no picture of a real person was used.\n\nAdamW, 20 epochs.\n" in made_up
    real = make_card(_config("ststnet", tmp_path / "b", ("a", "b"), ["casme2", *persons]))
    assert "- casme2: all of it\n" in real
    assert "made up" not in real
    assert "\nlicense: other\n" in real
    assert "These weights have seen casme2, whose owners give their data under agreements" in real
    unknown = make_card(_config("ststnet", tmp_path / "c", ("a", "b"), []))
    assert "Nothing is noted of what the weights have seen" in unknown


def test_results_stand_in_a_table_with_their_rule_and_what_is_beside_them(config: dict[str, Any]) -> None:
    text = make_card(config, results=RESULTS, limits="Not on infants.")
    for row in (
        "| data | part | epoch | uf1 | uar | simple rules: uf1 / uar |",
        "| synthetic faces, family field | 40 new persons, 960 clips | last epoch; nothing was chosen on test persons "
        "| 0.800 (0.820 ± 0.020) | 0.900 (0.900 ± 0.000) | majority 0.200 / 0.333, chance - / 0.333 |",
        "| SMIC | all persons, zero-shot | last epoch; nothing was chosen on test persons | 0.720 |  |  |",
        "in brackets mean ± standard deviation over seeds",
    ):
        assert row in text
    assert "40 new persons, 960 clips: The family was not trained on." in text
    assert "## Not evaluated on\n\nAnything that the table does not name." in text
    assert "\n\nNot on infants.\n" in text
    assert "Nothing that was noted here." in make_card(config)


def test_it_says_what_it_is_not_for_and_which_articles_limit_it(config: dict[str, Any]) -> None:
    text = " ".join(make_card(config).split())
    assert "Not for inferring emotion, intent or truthfulness of people" in text
    for words in ("Regulation (EU) 2024/1689", "Article 5(1)(f)", "Annex III, point 1(c)", "Article 50(3)"):
        assert words in text


def test_weights_chosen_on_test_persons_say_so_first(config: dict[str, Any]) -> None:
    config["mer_zoo"]["leak"] = "chosen on test subjects"
    text = make_card(config)
    assert "> **These weights were chosen on test persons** (chosen on test subjects)." in text
    assert text.index("chosen on test persons") < text.index("## What it eats")


def test_it_cites_as_the_citation_file_does(config: dict[str, Any]) -> None:
    text = make_card(config)
    for key, form in (("title", '"(.*)"'), ("version", "(.*)"), ("date-released", r"(\d{4})")):
        cited = re.search(rf"^{key}: {form}", CITATION, re.MULTILINE)
        assert cited is not None
        assert f"{{{cited[1]}}}" in text
    assert "{{The mer-zoo developers}}" in text


def test_what_is_licensed() -> None:
    assert licensed_corpora({"trained_on": ["smic/1", "samm/*", "synthetic/1", "synthetic_flow"]}) == ["samm", "smic"]
    assert licensed_corpora({}) == []


def test_what_no_card_can_be_made_of_is_refused() -> None:
    with pytest.raises(WeightsError, match="no 'mer_zoo' block with an input spec"):
        make_card({"architecture": "ststnet"})
    with pytest.raises(InputError, match=r"A result on 'SMIC' has scores \{'uf1': \[\]\}; expected a value or more"):
        Result("SMIC", "all", "last epoch", {"uf1": []})
