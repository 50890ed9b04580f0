"""Models to the Hub, by the real client against a server on loopback: push, the command, and tools/publish.py."""

import importlib.util
import json
import logging
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from _hub import TOKEN, Hub, connected, point_at
from huggingface_hub import HfApi, ModelCard, constants
from safetensors.torch import load_file, save_file
from torch import nn

import mer_zoo
from mer_zoo.cards import make_card
from mer_zoo.cli import main
from mer_zoo.errors import InputError, WeightsError
from mer_zoo.models._weights import sha256

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with connected(tmp_path / "cache", monkeypatch) as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model."""
    return _save(tmp_path / "model")


def _save(folder: Path, trained_on: tuple[str, ...] = ("synthetic/1-1", "synthetic_flow/2")) -> Path:
    classes = ("negative", "positive", "surprise")
    return mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), folder, classes=classes, trained_on=trained_on)


@torch.no_grad()
def _same(first: Any, second: Any) -> bool:
    x = torch.rand(2, *mer_zoo.input_spec(first).shape) * 255
    return torch.equal(first.eval()(x), second.eval()(x))


# What is sent


def test_a_folder_goes_up_as_it_is_with_a_card_that_is_not_left_in_it(hub: Hub, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    address = mer_zoo.push_to_hub(folder, "me/x", message="The first")
    sent = hub.files("me/x")
    assert {name: sent[name] for name in before} == before
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    card: Any = ModelCard(sent["README.md"].decode())
    assert card.data.library_name == "mer-zoo"
    assert 'create_model("hf-hub:me/x", pretrained=True)' in card.text
    commit = HfApi().list_repo_commits("me/x")[0]
    assert (address, commit.title) == (f"{hub.address}/me/x/commit/{commit.commit_id}", "The first")


def test_a_card_and_a_licence_of_ones_own_are_sent(hub: Hub, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    (folder / "LICENSE").write_text("Mine.")
    mer_zoo.push_to_hub(str(folder), "me/x")
    assert hub.files("me/x")["README.md"].endswith(b"# Mine\n")
    assert hub.files("me/x")["LICENSE"] == b"Mine."


def test_pushed_again_it_is_another_commit_unless_nothing_changed(folder: Path) -> None:
    first = mer_zoo.push_to_hub(folder, "me/x")
    assert mer_zoo.push_to_hub(folder, "me/x") == first
    other = mer_zoo.create_model("ststnet")
    second = mer_zoo.push_to_hub(other, "me/x")
    assert second != first
    assert len(HfApi().list_repo_commits("me/x")) == 3  # the one that made it, too
    assert _same(mer_zoo.create_model("hf-hub:me/x", pretrained=True), other)


@pytest.mark.parametrize("private", [True, False])
def test_who_may_see_it_is_settled_when_it_is_made(private: bool, hub: Hub, folder: Path) -> None:
    mer_zoo.push_to_hub(folder, "me/x", private=private)
    assert hub.repositories["me/x"].private == private
    mer_zoo.push_to_hub(mer_zoo.create_model("ststnet"), "me/x", private=not private)
    assert hub.repositories["me/x"].private == private


def test_it_is_private_unless_told_otherwise(hub: Hub, folder: Path) -> None:
    mer_zoo.push_to_hub(folder, "me/x")
    assert hub.repositories["me/x"].private


def test_a_branch_is_made_and_main_stays(hub: Hub, folder: Path) -> None:
    mer_zoo.push_to_hub(folder, "me/x")
    main_before = hub.repositories["me/x"].branches["main"]
    for _ in range(2):
        mer_zoo.push_to_hub(mer_zoo.create_model("ststnet"), "me/x", revision="a/b")
    assert hub.repositories["me/x"].branches["main"] == main_before
    assert hub.files("me/x", "a/b")["model.safetensors"] != hub.files("me/x")["model.safetensors"]


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("stray", "named"),
    [
        ("face.jpg", "face.jpg"),
        ("clip.avi", "clip.avi"),
        ("cache.npy", "cache.npy"),
        ("CASME2-coding.xlsx", "CASME2-coding.xlsx"),
        ("labels.csv", "labels.csv"),
        ("sub01/EP02/img1.png", "sub01/"),
        ("LICENSE/img1.png", "LICENSE/"),
    ],
)
def test_a_folder_with_anything_else_is_refused(stray: str, named: str, hub: Hub, folder: Path) -> None:
    (folder / stray).parent.mkdir(parents=True, exist_ok=True)
    (folder / stray).write_bytes(b"somebody's face")
    message = rf"holds more than a model: {named}\. Only model\.safetensors, .* sheets of licensed corpora must not be"
    with pytest.raises(InputError, match=message):
        mer_zoo.push_to_hub(folder, "me/x")
    assert not hub.repositories


def test_of_many_strays_the_first_few_are_named(folder: Path) -> None:
    for i in range(9):
        (folder / f"{i}.png").touch()
    with pytest.raises(InputError, match=r"a model: 0\.png, 1\.png, 2\.png, 3\.png, 4\.png and 4 more\. Only"):
        mer_zoo.push_to_hub(folder, "me/x")


def test_hidden_files_are_neither_refused_nor_sent(hub: Hub, folder: Path) -> None:
    (folder / ".DS_Store").touch()
    (folder / ".cache" / "faces").mkdir(parents=True)
    mer_zoo.push_to_hub(folder, "me/x")
    assert set(hub.files("me/x")) == {"model.safetensors", "config.json", "README.md", ".gitattributes"}


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _exchange(folder: Path) -> None:
    shutil.copy(_save(folder.parent / "other") / "model.safetensors", folder)


def _forget_the_spec(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["mer_zoo"]["input_spec"]
    (folder / "config.json").write_text(json.dumps(config))


def _answer_otherwise(folder: Path) -> None:
    """The right hash, and a network that computes something else."""
    config = json.loads((folder / "config.json").read_text())
    state = load_file(folder / "model.safetensors")
    state["fc.bias"] += 1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config["mer_zoo"]["sha256"] = sha256(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, r"model\.safetensors is no whole safetensors file"),
        (_exchange, r"model\.safetensors is not the file that .*config\.json describes"),
        (_forget_the_spec, r"config\.json has no 'mer_zoo' block with an input spec"),
        (_answer_otherwise, r"model\.safetensors: the network answers its probe otherwise than when it was saved"),
        (lambda folder: (folder / "config.json").unlink(), r"model has no config\.json; expected a folder written by"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors is not there"),
        (shutil.rmtree, r"model is not there; expected a folder written by mer_zoo\.save_pretrained"),
    ],
)
def test_weights_that_cannot_be_trusted_are_not_sent(damage: Any, message: str, hub: Hub, folder: Path) -> None:
    damage(folder)
    with pytest.raises(WeightsError, match=message):
        mer_zoo.push_to_hub(folder, "me/x")
    assert not hub.repositories


@pytest.mark.parametrize("repo", ["x", "me/x/y", "me/", "/x", "", "me/a b", "me/ü", "me/x--y", "me/x@v1"])
def test_a_name_that_is_none_of_a_repository_is_refused(repo: str, folder: Path) -> None:
    with pytest.raises(InputError, match=r"is no repository of the Hub; expected OWNER/REPO"):
        mer_zoo.push_to_hub(folder, repo)


def test_a_module_that_is_not_ours_is_refused() -> None:
    with pytest.raises(InputError, match="Linear was not made by create_model"):
        mer_zoo.push_to_hub(nn.Linear(2, 2), "me/x")


# Weights that have seen licensed corpora, or were chosen on test persons


def _leak(folder: Path) -> Path:
    config = json.loads((folder / "config.json").read_text())
    config["mer_zoo"]["leak"] = "chosen on test subjects"
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_marked_weights_are_pushed_privately_with_a_warning(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _leak(_save(tmp_path / "seen", ("casme2/01", "smic/s01", "smic/s02", "synthetic/1-1")))
    with caplog.at_level(logging.WARNING, "mer_zoo"):
        mer_zoo.push_to_hub(folder, "me/x")
    said = "These weights have seen casme2, smic, whose owners forbid passing data on and were chosen on test subjects;"
    assert said in caplog.text
    card = hub.files("me/x")["README.md"].decode()
    assert "\nlicense: other\n" in card
    assert "**These weights were chosen on test persons** (chosen on test subjects)" in card


def test_marked_weights_do_not_become_public(hub: Hub, tmp_path: Path, folder: Path) -> None:
    seen, leaked = _save(tmp_path / "seen", ("casme2/01",)), _leak(_save(tmp_path / "leaked"))
    with pytest.raises(
        InputError, match=r"seen casme2, whose owners forbid .* cannot be pushed publicly\. Push them pr"
    ):
        mer_zoo.push_to_hub(seen, "me/new", private=False)
    with pytest.raises(InputError, match=r"These weights were chosen on test subjects; they cannot be pushed publicly"):
        mer_zoo.push_to_hub(leaked, "me/new", private=False)
    assert not hub.repositories
    mer_zoo.push_to_hub(folder, "me/open", private=False)
    before = hub.files("me/open")
    with pytest.raises(InputError, match=r"seen casme2, .* and me/open is public; push them to a private repository"):
        mer_zoo.push_to_hub(seen, "me/open")
    assert hub.files("me/open") == before


def test_made_up_faces_are_nobodys(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mer_zoo"):
        mer_zoo.push_to_hub(folder, "me/x", private=False)
    assert not [record for record in caplog.records if record.name == "mer_zoo"]


# What the Hub refuses


@pytest.mark.parametrize("token", ["hf_wrong", None])
def test_a_wrong_or_missing_token_is_an_error(token: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "none"))
    with pytest.raises(
        WeightsError, match=r"^me/x was not pushed: there is no token, or the Hub does not know it; log"
    ):
        mer_zoo.push_to_hub(folder, "me/x", token=token)
    mer_zoo.push_to_hub(folder, "me/x", token=TOKEN)


def test_what_is_somebody_elses_is_an_error(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"^timm/x was not pushed: the token may not write there; take one with"):
        mer_zoo.push_to_hub(folder, "timm/x")


def test_a_card_that_the_hub_cannot_read_is_an_error(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: [mit\n---\n")
    with pytest.raises(WeightsError, match=r"(?s)^me/x was not pushed: .*README\.md.*the front matter"):
        mer_zoo.push_to_hub(folder, "me/x")


def test_a_hub_that_does_not_answer_is_an_error_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    point_at(f"http://127.0.0.1:{port}", monkeypatch)
    began = time.monotonic()
    with pytest.raises(WeightsError, match=rf"^me/x was not pushed: http://127\.0\.0\.1:{port} cannot be reached"):
        mer_zoo.push_to_hub(folder, "me/x")
    assert time.monotonic() - began < 1.5
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"^me/x was not pushed: the Hub is not asked while HF_HUB_OFFLINE is set"):
        mer_zoo.push_to_hub(folder, "me/x")


# The command


def test_the_command_pushes(hub: Hub, folder: Path, capsys: Output) -> None:
    words = ["push", str(folder), "me/x", "--public", "--revision", "v1", "--message", "Better"]
    assert main(words) == 0
    commit = HfApi().list_repo_commits("me/x", revision="v1")[0]
    assert commit.title == "Better"
    assert capsys.readouterr().out == f"Pushed {folder} to {hub.address}/me/x/commit/{commit.commit_id}\n"
    assert not hub.repositories["me/x"].private
    assert main(["push", str(folder), "me/y"]) == 0
    assert hub.repositories["me/y"].private


def test_the_command_says_what_is_refused(folder: Path, capsys: Output) -> None:
    (folder / "faces.npy").touch()
    assert main(["push", str(folder), "me/x"]) == 1
    assert "holds more than a model: faces.npy" in capsys.readouterr().err


# tools/publish.py


@pytest.fixture(scope="module")
def publish() -> Any:
    file = Path(__file__).parent.parent / "tools" / "publish.py"
    spec = importlib.util.spec_from_file_location("publish", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """Two weights as they lie in the wheel."""
    wheel = tmp_path / "weights"
    wheel.mkdir()
    for tag in ("synth_3", "synth_5"):
        folder = _save(tmp_path / tag)
        shutil.copy(folder / "config.json", wheel / f"ststnet.{tag}.json")
        shutil.copy(folder / "model.safetensors", wheel / f"ststnet.{tag}.safetensors")
        (wheel / f"ststnet.{tag}.md").write_text(make_card(json.loads((folder / "config.json").read_text())) + tag)
    return wheel


def test_every_shipped_weight_and_every_folder_is_published_with_its_card(
    publish: Any, shipped: Path, folder: Path, hub: Hub, capsys: Output
) -> None:
    large = folder.rename(folder.with_name("ststnet.large"))
    (large / "README.md").write_text("# Large\n")
    (shipped / "ststnet.large.json").write_bytes((large / "config.json").read_bytes())  # its weights are not there
    assert publish.main(["zoo", str(large), "--shipped", str(shipped), "--public"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["zoo/ststnet.large", "zoo/ststnet.synth_3", "zoo/ststnet.synth_5"]
    assert [line.partition(": ")[0] for line in lines] == [*names, "3 of 3 were pushed."]
    assert sorted(hub.repositories) == names
    assert hub.files("zoo/ststnet.synth_3")["README.md"].endswith(b"synth_3")
    assert not hub.repositories["zoo/ststnet.large"].private
    wheels = mer_zoo.create_model("ststnet", checkpoint_path=shipped / "ststnet.synth_3.safetensors")
    assert _same(mer_zoo.create_model("hf-hub:zoo/ststnet.synth_3", pretrained=True), wheels)


def test_one_that_fails_does_not_stop_the_others(publish: Any, shipped: Path, hub: Hub, capsys: Output) -> None:
    (shipped / "ststnet.synth_3.safetensors").write_bytes(b"")
    (shipped / "ststnet.elsewhere.json").write_text("{}")
    (shipped / "ststnet.bare.json").write_text("{}")
    (shipped / "ststnet.bare.safetensors").touch()
    assert publish.main(["zoo", "--shipped", str(shipped)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "zoo/ststnet.bare: FAILED. There is no card, README.md; nothing is published without one."
    assert lines[1].startswith("zoo/ststnet.elsewhere: FAILED. Its weights are not in ")
    assert lines[2].startswith("zoo/ststnet.synth_3: FAILED. ")
    assert "is no whole safetensors file" in lines[2]
    assert lines[3].startswith(f"zoo/ststnet.synth_5: {hub.address}/zoo/ststnet.synth_5/commit/")
    assert lines[4] == "1 of 4 were pushed."
    assert hub.repositories["zoo/ststnet.synth_5"].private


def test_a_dry_run_checks_and_sends_nothing(publish: Any, shipped: Path, hub: Hub, capsys: Output) -> None:
    assert publish.main(["zoo", "--dry-run", "--shipped", str(shipped)]) == 0
    said = "zoo/ststnet.synth_3: ststnet, 3 classes, would be pushed."
    assert capsys.readouterr().out.splitlines()[0] == said
    assert not hub.repositories
    assert publish.main(["zoo", "--dry-run", "--shipped", str(shipped / "none")]) == 1
