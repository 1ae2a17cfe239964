"""The only reader of the environment.

Owns every `MONGARS_` variable and the places derived from them. Must not know any room.
An unknown `MONGARS_` variable is refused, with the nearest known name, so that a typing error never
silently means "the default".
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


# pydantic-settings would read a tuple as JSON, which nobody wants to write in a shell.
CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2}$")]


class Settings(BaseSettings):
    """Where things are and which parts are used; docs/settings.md lists the same table, held by a test."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True)

    home: Path = Field(Path("var"), description="Everything that changes: database, index, MLflow, keys, runs.")
    models_dir: Path = Field(Path("models"), description="`base/`, `datasets/` and `encoders/`.")
    encoders_url: Annotated[str, Field(pattern=r"^s3://[^/]+")] | None = Field(
        None,
        description="`s3://bucket/prefix` of the adapters, for machines without a common folder; "
        "`encoders/` then holds copies.",
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
        "serve", description="Who generates replies: our own deployment, an OpenAI-compatible server, or Ollama."
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
    server_url: str = Field(
        "http://127.0.0.1:8000", description="Server that `mongars chat` and `status` talk to."
    )
    api_key: str | None = Field(None, description="Key that the command line shows the server.", repr=False)
    languages: Annotated[tuple[LanguageCode, ...], NoDecode, BeforeValidator(_split)] = Field(
        ("en", "fr"), description="ISO 639-1 codes, comma-separated, that curation keeps."
    )
    retention_days: int | None = Field(
        None, ge=1, description="Conversations older than this never enter a dataset; unlimited by default."
    )
    person_names: bool = Field(
        True, description="Whether curation looks for person names beside those it was told."
    )
    sts_file: Path | None = Field(
        None,
        description="CSV of sentence, sentence, score: a self-training cycle tells how well cosines follow the "
        "scores; not measured by default.",
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
        """Return the folder of the runs that train adapters."""
        return self.home / "training"

    @property
    def pretraining_dir(self) -> Path:
        """Return the folder of the runs that make bases, with the text that they read."""
        return self.home / "pretraining"

    @property
    def pseudonym_key_file(self) -> Path:
        """Return the file of the secret behind pseudonyms and subject ids; never part of a dataset."""
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
        """Return a copy whose relative folders are absolute: Ray workers do not share our working directory."""
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


# Each makes Ray Data unpickle what a Parquet or WebDataset file carries: whoever writes the file runs code here
# (CVE-2026-41486, CVE-2026-57516; for PyExtensionType see CVE-2023-47248 of Arrow).
UNSAFE_RAY_DATA = (
    "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
    "RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR",
    "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE",
    "RAY_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION",
)


def refuse_unsafe_ray_data() -> None:
    """Raise SettingsError when a variable that makes Ray Data run code from data files is switched on."""
    for name in UNSAFE_RAY_DATA:
        if os.environ.get(name, "").lower() not in ("", "0", "false"):
            raise SettingsError(
                f"{name} is set: Ray Data would run code that a data file carries.", remedy=f"Run: unset {name}"
            )


def load_settings() -> Settings:
    """Read the environment.

    Raises SettingsError for an unknown `MONGARS_` variable or a value that does not fit.
    """
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
