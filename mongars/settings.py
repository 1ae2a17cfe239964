"""Settings from the environment; no other module reads it.

An unknown `MONGARS_` variable is refused with the nearest known name, so that a typo never silently means the
default.
"""

import difflib
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mongars.errors import SettingsError

PREFIX = "MONGARS_"


def _split(value: object) -> object:
    """Split a comma-separated variable; a sequence given in code passes through."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


# pydantic-settings would otherwise expect a tuple as JSON, which is awkward in a shell.
CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2}$")]


class Settings(BaseSettings):
    """Paths and options. docs/settings.md is generated from the descriptions."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True)

    home: Path = Field(
        Path("var"), description="Folder of all changing data: database, index, MLflow, keys, runs."
    )
    models_dir: Path = Field(Path("models"), description="Folder of `base/`, `datasets/` and `encoders/`.")
    encoders_url: Annotated[str, Field(pattern=r"^s3://[^/]+")] | None = Field(
        None,
        description="`s3://bucket/prefix` of the adapters, for machines without a shared folder; "
        "`encoders/` then has copies.",
    )
    base_model: str = Field(
        "models/base/mongars-nano", description="The base language model: a local folder or a hub id."
    )
    cpu_optimizations: bool = Field(
        True,
        description="Whether models run with our optimizations for CPUs. Without them they are slower, and "
        "results differ by rounding only.",
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy URL of the conversations; SQLite under the home by default."
    )
    index_uri: str | None = Field(
        None, description="Folder or URL of the LanceDB index; under the home by default."
    )
    mlflow_tracking_uri: str | None = Field(
        None, description="MLflow tracking store; SQLite under the home by default."
    )
    llm_backend: Literal["serve", "http", "ollama"] = Field(
        "serve", description="What generates replies: our own deployment, an OpenAI-compatible server, or Ollama."
    )
    llm_endpoints: CommaSeparated = Field(
        (), description="Base URLs, comma-separated, tried in order when the backend is `http`."
    )
    llm_model: str | None = Field(None, description="Model name at the `http` or `ollama` backend.")
    llm_api_key: str | None = Field(None, description="Bearer key for the `http` backend.", repr=False)
    ollama_host: str = Field("http://127.0.0.1:11434", description="Address of Ollama.")
    ray_namespace: str = Field("mongars", description="Namespace of the named actor.")
    api_keys_file: Path | None = Field(
        None, description="API keys (hashed), written by `mongars keys create`; under the home by default."
    )
    server_url: str = Field("http://127.0.0.1:8000", description="Server for `mongars chat` and `mongars status`.")
    api_key: str | None = Field(None, description="API key that the command line sends to the server.", repr=False)
    languages: Annotated[tuple[LanguageCode, ...], NoDecode, BeforeValidator(_split)] = Field(
        ("en", "fr"), description="Languages that curation keeps: ISO 639-1 codes, comma-separated."
    )
    retention_days: int | None = Field(
        None, ge=1, description="Curation drops conversations older than this; unlimited by default."
    )
    person_names: bool = Field(
        True, description="Whether curation searches for person names other than the known ones."
    )
    sts_file: Path | None = Field(
        None,
        description="CSV of sentence, sentence, score. With it, a self-training cycle reports how well cosine "
        "similarities correlate with the scores.",
    )
    otlp_endpoint: str | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="OpenTelemetry collector; nothing is sent without it.",
    )

    @property
    def datasets_dir(self) -> Path:
        """Return the folder of the dataset catalog."""
        return self.models_dir / "datasets"

    @property
    def encoders_dir(self) -> Path:
        """Return the folder of the adapters and their manifest."""
        return self.models_dir / "encoders"

    @property
    def training_dir(self) -> Path:
        """Return the folder of adapter training runs."""
        return self.home / "training"

    @property
    def pretraining_dir(self) -> Path:
        """Return the folder of pretraining runs, with their text."""
        return self.home / "pretraining"

    @property
    def pseudonym_key_file(self) -> Path:
        """Return the file of the secret that keys pseudonyms and subject ids."""
        return self.home / "pseudonyms.key"

    @property
    def database(self) -> str:
        """Return the SQLAlchemy URL of the conversations."""
        return self.database_url or f"sqlite:///{(self.home / 'mongars.db').resolve()}"

    @property
    def index(self) -> str:
        """Return the address of the LanceDB index."""
        return self.index_uri or str((self.home / "index").resolve())

    @property
    def tracking(self) -> str:
        """Return the MLflow tracking URI."""
        return self.mlflow_tracking_uri or f"sqlite:///{(self.home / 'mlflow.db').resolve()}"

    @property
    def keys_file(self) -> Path:
        """Return the file of hashed API keys."""
        return self.api_keys_file or self.home / "api_keys.json"

    def resolved(self) -> "Settings":
        """Return a copy with absolute paths, because Ray workers have another working directory."""
        base = Path(self.base_model)
        return self.model_copy(
            update={
                "home": self.home.resolve(),
                "models_dir": self.models_dir.resolve(),
                "base_model": str(base.resolve()) if base.exists() else self.base_model,
                "database_url": self.database,
                "index_uri": self.index,
                "mlflow_tracking_uri": self.tracking,
                "api_keys_file": self.keys_file.resolve(),
                "sts_file": self.sts_file and self.sts_file.resolve(),
            }
        )


def variable_name(field: str) -> str:
    """Return the environment variable that sets `field`."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias) if alias else f"{PREFIX}{field.upper()}"


# Each makes Ray Data unpickle content of Parquet or WebDataset files, so that a file can run code
# (CVE-2026-41486, CVE-2026-57516; for PyExtensionType see CVE-2023-47248 of Arrow).
UNSAFE_RAY_DATA = (
    "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
    "RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR",
    "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE",
    "RAY_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION",
)


def refuse_unsafe_ray_data() -> None:
    """Raise SettingsError when a variable allows Ray Data to run code from data files."""
    for name in UNSAFE_RAY_DATA:
        if os.environ.get(name, "").lower() not in ("", "0", "false"):
            raise SettingsError(
                f"{name} is set: Ray Data would run code from data files.", remedy=f"Run: unset {name}"
            )


def load_settings() -> Settings:
    """Read the environment. Raises SettingsError for an unknown `MONGARS_` variable or an invalid value."""
    known = [variable_name(field) for field in Settings.model_fields]
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(known))}."
            raise SettingsError(f"Unknown setting {name}.", remedy=hint)
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        shown = name if name in known else variable_name(name)
        raise SettingsError(f"{shown}: {first['msg']}.", remedy="See docs/settings.md.") from None
