"""`mongars redact`: a file of texts to the same file without its personal data.

Owns the command only.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mongars.cli.data import report_bad_line
from mongars.cli.output import JSON_OPTION, Stages, emit, facts, progress
from mongars.curation.pii.replacement import Mode
from mongars.errors import InputError
from mongars.formats.jsonl import BadLine, Text, check_readable, numbered_lines, read_texts
from mongars.settings import load_settings

if TYPE_CHECKING:
    from mongars.curation.pii.redact_file import Redaction

_SHOW_EVERY = 256


def redact(
    source: Annotated[Path, typer.Option("--input", help='JSONL or .jsonl.gz, one `{"id", "text"}` a line.')],
    output: Annotated[Path, typer.Option(help="JSONL or .jsonl.gz to write; the offsets in it are of the input.")],
    mode: Annotated[Mode, typer.Option(help="What stands where personal data stood.")] = Mode.PSEUDONYM,
    known: Annotated[
        list[Path] | None,
        typer.Option(help="File of values that are known (names, e-mails, phones), one a line; repeat it."),
    ] = None,
    names: Annotated[bool, typer.Option(help="Find person names that are not known.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the output when it is there.")] = False,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Replace the personal data in every text of a file; a line that cannot be read is named and left out."""
    from mongars.formats.jsonl import write_lines

    _check(source, output, force=force)
    redaction = _redaction(mode, _values(known or ()), names=names)
    with progress("Redacting") as bar:
        lines = sum(1 for _ in numbered_lines(source))  # cheap next to redacting it
        write_lines(output, redaction.lines(_paced(source, bar, lines), report_bad_line))
    summary = {"output": str(output), "texts": redaction.texts, "unreadable lines": redaction.bad_lines}
    found = dict(sorted(redaction.spans.items()))
    if json:
        emit(summary | {"spans": found})
    else:
        facts("Redacted", summary | {f"found: {kind}": count for kind, count in found.items()})
    raise typer.Exit(1 if redaction.bad_lines else 0)


def _check(source: Path, output: Path, *, force: bool) -> None:
    check_readable(source)
    if output.exists() and output.samefile(source):
        raise InputError("The output is the input.", remedy="Give --output another name.", param="output")
    if output.exists() and not force:
        raise InputError(
            f"{output} is there already.", remedy="Give --force to replace it, or another name.", param="output"
        )


def _redaction(mode: Mode, known: tuple[str, ...], *, names: bool) -> "Redaction":
    from mongars.curation.pii.person_names.tagger import load_tagger
    from mongars.curation.pii.pseudonyms import load_or_create_secret
    from mongars.curation.pii.redact_file import Redaction

    secret = load_or_create_secret(load_settings().pseudonym_key_file)
    return Redaction(mode, secret, known, load_tagger().find if names else None)


def _values(files: list[Path] | tuple[Path, ...]) -> tuple[str, ...]:
    values: list[str] = []
    for path in files:
        check_readable(path)
        try:
            values += filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines()))
        except UnicodeDecodeError:
            raise InputError(f"{path} is not UTF-8.", remedy="Save it as UTF-8.", param="known") from None
    return tuple(values)


def _paced(source: Path, bar: Stages, lines: int) -> Iterator[Text | BadLine]:
    for item in read_texts(source):
        if item.line % _SHOW_EVERY == 0:
            bar.update(item.line, lines)
        yield item
    bar.update(lines, lines)
