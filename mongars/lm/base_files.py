"""The files of a base model: where they are, how they are fetched, and their digest.

Imports no torch, so that a process that only names a base starts quickly.
"""

from pathlib import Path

from mongars.errors import ModelNotFoundError
from mongars.storage.digests import folder_digest

WEIGHTS = "*.safetensors"
# Files that determine the model's output; the model card, for example, does not.
DIGESTED = (
    "config.json",
    WEIGHTS,
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
REMEDY = (
    "Set MONGARS_BASE_MODEL to a folder or a hub id; the default, mongars-nano, is in models/base of a checkout."
)


def base_folder(path_or_id: str | Path) -> Path:
    """Return the folder of a base model, downloaded if it is a hub id. Raises ModelNotFoundError."""
    path = Path(path_or_id)
    if not path.is_dir() and _is_hub_id(str(path_or_id)):
        path = _fetch(str(path_or_id))
    if not (path / "config.json").is_file() or not any(path.glob(WEIGHTS)):
        raise ModelNotFoundError(f"No base model with safetensors at {path_or_id}.", remedy=REMEDY)
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise ModelNotFoundError(
            f"The base model at {path_or_id} has no tokenizer.",
            remedy=f"Add one of its files: {', '.join(TOKENIZERS)}.",
        )
    return path


def base_name(path_or_id: str | Path) -> str:
    """Return the name of a base model for a card: its hub id, or its folder's name without the path."""
    path = Path(path_or_id)
    return path.resolve().name if path.is_dir() else str(path_or_id)


def base_model_digest(path: Path) -> str:
    """Return the digest of a base model's folder: configuration, weights and tokenizer. Raises OSError."""
    names = {found.name for pattern in DIGESTED for found in path.glob(pattern)}
    return folder_digest(path, names)


def _is_hub_id(text: str) -> bool:
    parts = text.split("/")
    return len(parts) == 2 and all(parts) and not text.startswith(".")  # noqa: PLR2004 (owner and name)


def _fetch(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[*DIGESTED, "generation_config.json"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        found = f"No folder {hub_id}, and the hub did not give it ({type(error).__name__})."
        raise ModelNotFoundError(found, remedy=REMEDY) from error
