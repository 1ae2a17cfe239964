import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mongars.errors import ModelNotFoundError
from mongars.lm.base_files import base_folder, base_model_digest


def test_a_missing_folder_is_an_error_that_names_the_remedy(tmp_path: Path):
    with pytest.raises(ModelNotFoundError, match="MONGARS_BASE_MODEL"):
        base_folder(tmp_path / "absent" / "model" / "here")


def test_a_folder_with_only_pickled_weights_is_refused(base_path: Path, tmp_path: Path):
    folder = tmp_path / "pickled"
    shutil.copytree(base_path, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelNotFoundError, match="safetensors"):
        base_folder(folder)


def test_the_digest_covers_the_tokenizer_but_not_the_model_card(base_path: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(base_path, folder)
    (folder / "README.md").write_text("a card")
    assert base_model_digest(folder) == base_model_digest(base_path)
    (folder / "tokenizer_config.json").write_text("{}")
    assert base_model_digest(folder) != base_model_digest(base_path)


def test_a_base_without_a_tokenizer_is_refused_before_it_is_loaded(base_path: Path, tmp_path: Path):
    folder = shutil.copytree(base_path, tmp_path / "base")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"has no tokenizer\. Add one of its files"):
        base_folder(folder)


def test_the_ingress_and_the_memory_name_a_base_without_loading_torch():
    modules = "mongars.serving.http.ingress, mongars.serving.deployments.memory"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
