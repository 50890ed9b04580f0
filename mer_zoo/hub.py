"""Models on disk and on the Hugging Face Hub, in the form in which timm keeps them."""

import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors
from safetensors.torch import save_file
from torch import nn

import mer_zoo
from mer_zoo.cards import licensed_corpora, make_card
from mer_zoo.errors import InputError, MerZooError, WeightsError
from mer_zoo.models._base import ZooModel
from mer_zoo.models._builder import write_pretrained
from mer_zoo.models._weights import (
    CARD,
    CONFIG,
    CONFIG_KEY,
    HUB_ERRORS,
    WEIGHTS,
    in_folder,
    reachable,
)
from mer_zoo.types import InputSpec, seen_by

FILES = (WEIGHTS, CONFIG)
PUSHED = (WEIGHTS, CONFIG, CARD, "LICENSE", ".gitattributes")
FEW = 5  # names that an error lists
_ADVICE = "Push them privately, and if the owners of the data allow it, open the repository in its settings on the Hub."

logger = logging.getLogger("mer_zoo")


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    *,
    classes: Sequence[str] | None = None,
    trained_on: Sequence[str] | None = None,
) -> Path:
    """Write a registered model so that ``create_model("local-dir:FOLDER", pretrained=True)`` gives it back.

    The folder gets ``model.safetensors`` and ``config.json``; the latter carries the input spec, without which weights
    are worth nothing. Both are written aside first and then moved; other files in the folder stay.

    Args:
        model: Made by ``create_model``.
        folder: Where; an earlier model there is replaced.
        classes: Names by class index; by default those that the model was loaded with.
        trained_on: Corpora, persons (``corpus/subject``) or patterns of persons (``synthetic/1-*``) that the weights
            have seen; by default those that the model was loaded with and that ``training.fit`` noted since.

    Returns:
        The folder.

    Raises:
        InputError: If the model is not one of ours, if ``classes`` are not as many as it has, if its spec says other
            frames or another size than it was built for, or if a ``config.json`` of something else lies in the folder.
    """
    folder = Path(folder).expanduser()
    if not isinstance(model, ZooModel):
        raise InputError(f"{type(model).__name__} was not made by create_model; save its state dict yourself.")
    spec, built_for = model.input_spec, model.adapt_spec(model.input_spec)
    if built_for != spec:
        raise InputError(_says_otherwise(spec, built_for))
    facts = _facts(model, classes, trained_on)
    _check_target(folder)
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    try:
        write_pretrained(model, aside, facts)
        for name in FILES:
            (aside / name).replace(folder / name)
    finally:
        shutil.rmtree(aside)
    return folder


def _says_otherwise(spec: InputSpec, built_for: InputSpec) -> str:
    """What a spec says that its model was not built for, and the options that would build it so."""
    options = {"frames": "num_frames", "size": "size"}
    wrong = [name for name in options if getattr(spec, name) != getattr(built_for, name)]
    built, found = (", ".join(f"{name} {getattr(each, name)}" for name in wrong) for each in (built_for, spec))
    asked = ", ".join(f"{options[name]}={getattr(spec, name)}" for name in wrong)
    return f"The model was built for {built}, and its input_spec says {found}; build it with {asked}."


def _facts(model: ZooModel, classes: Sequence[str] | None, trained_on: Sequence[str] | None) -> dict[str, Any]:
    """Class names and what the weights have seen, as given or as loaded."""
    loaded = model.saved_facts
    if classes is None and len(loaded.get("classes", ())) == model.num_classes:
        classes = loaded.get("classes", ())
    if classes and len(classes) != model.num_classes:
        raise InputError(f"{len(classes)} class names {list(classes)} for a model of {model.num_classes} classes.")
    seen = seen_by(model) if trained_on is None else trained_on
    leak = {"leak": loaded["leak"]} if "leak" in loaded else {}
    return {"classes": list(classes or ()), "trained_on": list(seen), **leak}


def keep_weights(model: Any, classes: Sequence[str], leak: str | None, folder: Path) -> None:
    """Write the weights of a fold: a registered model as ``save_pretrained`` does, another one its state alone.

    What leaked into choosing them stands in ``config.json``, or in the metadata of the weights.
    """
    if leak:
        model.saved_facts = {**getattr(model, "saved_facts", {}), "leak": leak}
    if isinstance(model, ZooModel):
        save_pretrained(model, folder, classes=classes)
        return
    folder.mkdir()
    facts = {"format": "pt", "classes": json.dumps(list(classes)), "trained_on": json.dumps(seen_by(model))}
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={**facts, **({"leak": leak} if leak else {})})


def _check_target(folder: Path) -> None:
    """Refuse to write over the configuration of something that is not a model."""
    file = folder / CONFIG
    if not file.exists():
        return
    try:
        known = "architecture" in json.loads(file.read_text())
    except ValueError:
        known = False
    if not known:
        raise InputError(f"{file} is not that of a model; pass another folder.")


def push_to_hub(
    model: nn.Module | str | Path,
    repo_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Put a model on the Hugging Face Hub, from where ``create_model("hf-hub:OWNER/REPO", pretrained=True)`` gets it.

    A repository that is not there is made; in one that is, a commit is added and who may see it stays as it is. Only
    files of a model are sent: weights, configuration, card, licence. A model, or a folder without ``README.md``, gets a
    card by ``cards.make_card``; for words of your own write that file.

    Weights that have seen a corpus that is not made up, or that were chosen on test persons, are sent to private
    repositories only, with a warning: owners of corpora forbid passing their data on, and weights may count as such.
    If the owners allow it, open the repository in its settings on the Hub.

    Args:
        model: Made by ``create_model``, or a folder with one, written by ``save_pretrained``.
        repo_id: ``OWNER/REPO``.
        private: Whether a repository made now is seen by its owner alone.
        revision: A branch, made if it is not there; by default ``main``.
        token: Of the Hub, with the right to write; by default that of ``hf auth login`` or ``HF_TOKEN``.
        message: Of the commit.

    Returns:
        The address of the commit; of the last one if nothing had changed.

    Raises:
        InputError: If the model is none of ours, the folder holds anything else, the name is none of a repository, or
            such weights would become public.
        WeightsError: If the weights are damaged or answer their probe otherwise than when they were saved, or if the
            Hub cannot be reached or refuses.
    """
    _check_repo(repo_id)
    if not isinstance(model, nn.Module):
        return _push(Path(model).expanduser(), repo_id, private, revision, token, message)
    with tempfile.TemporaryDirectory() as aside:
        return _push(save_pretrained(model, aside), repo_id, private, revision, token, message)


def check_folder(folder: Path, private: bool) -> dict[str, Any]:
    """The configuration of a folder that may be pushed; what is marked is logged.

    Raises:
        InputError: If something else lies in the folder, or if marked weights would become public.
        WeightsError: If the weights cannot be trusted.
    """
    strays = sorted(_strays(folder)) if folder.is_dir() else []
    if strays:
        more = f" and {len(strays) - FEW} more" if len(strays) > FEW else ""
        raise InputError(
            f"{folder} holds more than a model: {', '.join(strays[:FEW])}{more}. Only {', '.join(PUSHED)} are pushed: "
            "pictures, videos, caches and sheets of licensed corpora must not be passed on. Push a folder written by "
            "mer_zoo.save_pretrained."
        )
    found = in_folder(folder)
    mer_zoo.create_model(f"local-dir:{folder}", pretrained=True)
    if marks := _marks(found.block):
        if not private:
            raise InputError(f"These weights {marks}; they cannot be pushed publicly. {_ADVICE}")
        logger.warning("These weights %s; keep them private unless the owners of the data allow more.", marks)
    return found.values


def _strays(folder: Path) -> Iterator[str]:
    """Names of what is not a model's; hidden files, such as an operating system leaves, are passed over."""
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            yield f"{path.name}/"
        elif path.name not in PUSHED and not path.name.startswith("."):
            yield path.name


def _marks(block: dict[str, Any]) -> str:
    """Why weights should not become public, if so."""
    corpora = licensed_corpora(block)
    seen = [f"have seen {', '.join(corpora)}, whose owners forbid passing data on"] if corpora else []
    leak = [f"were {block['leak']}"] if block.get("leak") else []
    return " and ".join(seen + leak)


def _check_repo(repo_id: str) -> None:
    try:
        huggingface_hub.hf_hub_url(repo_id, CONFIG)  # looks at the name, and asks nobody
    except errors.HFValidationError as error:
        raise InputError(f"{repo_id!r} is no repository of the Hub; expected OWNER/REPO. {error}") from error
    if "/" not in repo_id or not repo_id.isascii():  # older clients let other letters pass
        raise InputError(f"{repo_id!r} is no repository of the Hub; expected OWNER/REPO, such as me/x.")


def _push(
    folder: Path, repo_id: str, private: bool, revision: str | None, token: str | None, message: str | None
) -> str:
    """Look the folder over, then send it."""
    config = check_folder(folder, private)
    contents: dict[str, Path | bytes] = {name: folder / name for name in PUSHED if (folder / name).is_file()}
    contents.setdefault(CARD, make_card(config, repo=repo_id).encode())
    files = [huggingface_hub.CommitOperationAdd(name, content) for name, content in contents.items()]
    said = message or f"{config['architecture']} by mer-zoo {mer_zoo.__version__}"
    api = huggingface_hub.HfApi(token=token, library_name="mer-zoo", library_version=mer_zoo.__version__)
    with _explained(repo_id):
        api.create_repo(repo_id, private=private, exist_ok=True)
        marks = _marks(config[CONFIG_KEY])
        if marks and not api.model_info(repo_id).private:
            raise InputError(f"These weights {marks}, and {repo_id} is public; push them to a private repository.")
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        return str(api.create_commit(repo_id, files, commit_message=said, revision=revision).commit_url)


@contextlib.contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """What the Hub or its client refuses, as an error that says what to do."""
    if constants.HF_HUB_OFFLINE:
        raise WeightsError(f"{repo_id} was not pushed: the Hub is not asked while HF_HUB_OFFLINE is set.")
    if not reachable(constants.ENDPOINT):
        raise WeightsError(f"{repo_id} was not pushed: {constants.ENDPOINT} cannot be reached.")
    try:
        yield
    except MerZooError:
        raise
    except HUB_ERRORS as error:
        raise WeightsError(f"{repo_id} was not pushed: {_refusal(error)}") from error


def _refusal(error: Exception) -> str:
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status == 401:
        return "there is no token, or the Hub does not know it; log in by `hf auth login`, or set HF_TOKEN."
    if status == 403:
        return "the token may not write there; take one with the right to write, or a name of your own as OWNER."
    return str(error)
