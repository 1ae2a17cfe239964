"""Replace the personal data in a file of texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mongars.errors import InputError
from mongars.formats.jsonl import BadLine, Text, check_readable, numbered_lines, read_texts, write_lines
from mongars.settings import Settings
from mongars.workflows.wiring import SILENT, Progress

if TYPE_CHECKING:
    from mongars.curation.pii.redact_file import Redaction

Mode = Literal["pseudonym", "tag", "mask"]
_UPDATE_EVERY = 256


@dataclass(frozen=True, slots=True)
class RedactOptions:
    """What replaces personal data, files of known values, and whether unknown person names are looked for."""

    mode: Mode = "pseudonym"
    known: Sequence[Path] = ()
    names: bool = True
    force: bool = False


def redact(
    settings: Settings, source: Path, output: Path, options: RedactOptions, progress: Progress = SILENT
) -> "Redaction":
    """Write the texts of `source` without personal data to `output`; report unreadable lines and leave them out.

    Raises InputError for a file that cannot be read, and for an output that exists unless `options.force`.
    """
    from mongars.curation.pii import Mode as ReplacementMode
    from mongars.curation.pii.person_names.tagger import load_tagger
    from mongars.curation.pii.pseudonyms import load_or_create_secret
    from mongars.curation.pii.redact_file import Redaction

    check_readable(source)
    check_output(source, output, force=options.force)
    secret = load_or_create_secret(settings.pseudonym_key_file)
    find_names = load_tagger().find if options.names else None
    redaction = Redaction(ReplacementMode(options.mode), secret, _known_values(options.known), find_names)
    progress.stage("Redacting")
    lines = sum(1 for _ in numbered_lines(source))  # reading the file is cheap compared to redacting it

    def report_bad(bad: BadLine) -> None:
        progress.warn(f"{bad.path}:{bad.line}: {bad.reason}")

    write_lines(output, redaction.lines(_counted(source, lines, progress), report_bad))
    return redaction


def check_output(source: Path, output: Path, *, force: bool) -> None:
    """Raise InputError for an output that cannot be written: the input, a folder, or a file without `force`."""
    if output.is_dir():
        raise InputError(f"{output} is a folder.", remedy="Give the path of a file with --output.", param="output")
    if output.exists() and output.samefile(source):
        raise InputError(f"{output} is the input.", remedy="Choose another --output.", param="output")
    if output.exists() and not force:
        raise InputError(
            f"{output} already exists.", remedy="Choose another --output, or add --force.", param="output"
        )


def _known_values(files: Sequence[Path]) -> tuple[str, ...]:
    values: list[str] = []
    for path in files:
        check_readable(path)
        try:
            values += filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines()))
        except UnicodeDecodeError:
            raise InputError(f"{path} is not UTF-8.", remedy="Save it as UTF-8.", param="known") from None
    return tuple(values)


def _counted(source: Path, lines: int, progress: Progress) -> Iterator[Text | BadLine]:
    for item in read_texts(source):
        if item.line % _UPDATE_EVERY == 0:
            progress.update(item.line, lines)
        yield item
    progress.update(lines, lines)
