"""The encoders in MLflow's model registry: a version for each trained adapter, aliases `candidate` and `champion`.

Owns the registered model, what its aliases mean, and that a call which is repeated, or comes late, leaves them
right. Must not know runs' metrics, nor when it is called.

`candidate` is the newest adapter that was not judged yet; a judgement takes it away. `champion` is what the
manifest's newest generation serves. Promoted and rejected alike have tags that say how the gate decided. The
digest is a version's identity here: MLflow's numbers only count.
"""

from typing import Any

MODEL = "mongars-encoder"
"""One for the installation, as the manifest has one current encoder, whatever its adapters are called."""
CANDIDATE = "candidate"
CHAMPION = "champion"
DIGEST = "mongars.digest"
MADE_AT = "mongars.made_at"
VERDICT = "mongars.verdict"
REASON = "mongars.reason"
GENERATION = "mongars.generation"
REASON_LENGTH = 8000  # characters that MLflow holds of a run's tag; of a version's it holds more


class ModelVersions:
    """Versions of the registered model, by the client of a store that has runs and models."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def add_candidate(self, digest: str, source: str, run_id: str, at: int) -> None:
        """Have a version of an adapter; the candidate, unless it was judged or a newer one (`at`) is there."""
        version = self._find(digest) or self._add(digest, source, run_id, at)
        now = self._aliased(CANDIDATE)
        newer = now is not None and int(now.tags.get(MADE_AT, 0)) > at  # a person may name any version
        if VERDICT not in version.tags and not newer:
            self._client.set_registered_model_alias(MODEL, CANDIDATE, version.version)

    def judge(self, digest: str, verdict: str, reason: str) -> None:
        """Tag a version with the verdict; it is no candidate any longer."""
        version = self._find(digest)
        if version is None:  # somebody deleted it
            return
        for tag, value in ((REASON, reason[:REASON_LENGTH]), (VERDICT, verdict)):
            self._client.set_model_version_tag(MODEL, version.version, tag, value)
        now = self._aliased(CANDIDATE)
        if now is not None and now.version == version.version:
            self._client.delete_registered_model_alias(MODEL, CANDIDATE)

    def set_champion(self, digest: str, generation: int) -> None:
        """Let the champion be what a generation serves, unless a newer generation was told before."""
        version = self._find(digest)
        if version is None:  # trained elsewhere, or before versions were kept
            return
        told = self._client.get_registered_model(MODEL).tags.get(GENERATION)
        if told is not None and int(told) > generation:
            return
        self._client.set_registered_model_alias(MODEL, CHAMPION, version.version)
        self._client.set_registered_model_tag(MODEL, GENERATION, str(generation))

    def _add(self, digest: str, source: str, run_id: str, at: int) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(MODEL)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {DIGEST: digest, MADE_AT: str(at)}
        return self._client.create_model_version(MODEL, source, run_id, tags=tags, await_creation_for=0)

    def _find(self, digest: str) -> Any | None:
        found = self._client.search_model_versions(f"name = '{MODEL}' and tags.`{DIGEST}` = '{digest}'")
        return found[0] if found else None

    def _aliased(self, alias: str) -> Any | None:
        """Return the version of an alias, None when no version has it."""
        known = self._client.get_registered_model(MODEL).aliases.get(alias)
        return None if known is None else self._client.get_model_version(MODEL, known)
