"""Import a LoRA adapter that peft saved elsewhere."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mongars.records import AdapterKind
from mongars.settings import Settings
from mongars.workflows.wiring import base_spec, open_registry

if TYPE_CHECKING:
    from mongars.registry import Publication


def import_adapter(
    settings: Settings, folder: Path, name: str, kind: AdapterKind = "encoder", *, base: str | None = None
) -> "Publication":
    """Register the adapter as a candidate for `base`, by default the served base; promoting it serves it.

    Equal imports give equal digests. Raises AdapterRefusedError for a folder that is not supported or does not fit
    the base, ModelNotFoundError without the base.
    """
    from mongars.lm.base_files import base_name
    from mongars.registry import PublishRequest
    from mongars.registry.importing import import_adapter as convert

    wanted = base or settings.base_model
    spec = base_spec(wanted)
    with tempfile.TemporaryDirectory() as scratch:
        converted = Path(scratch) / "adapter"
        convert(folder, converted, kind, spec, base_name=base_name(wanted))
        return open_registry(settings).register(PublishRequest(converted, name, spec, kind))
