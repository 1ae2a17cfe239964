"""Write tests/training/llm2vec, against which tests compare our encoder and loss with llm2vec's.

    PYTHONPATH=OVER:llm2vec-0.2.3 python benchmarks/peers/llm2vec_fixture.py tests/training/llm2vec

Runs in llm2vec's own environment (see benchmarks/README.md) without mongars. The fixture is a tiny Llama with
random weights, an adapter trained and saved by llm2vec's model, a batch masked by the collator of its script, and
the model's output: the states of the real tokens and the loss.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from llm2vec.models import LlamaBiForMNTP
from llm2vec.version import __version__ as llm2vec_version
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import DataCollatorForLanguageModeling, LlamaConfig, PreTrainedTokenizerFast

WORDS = 90
LENGTHS = (24, 5, 17, 11)
STEPS = 20
LLM2VEC_MODULES = ["q_proj", "v_proj", "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main(target: Path) -> None:
    """Write the fixture."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    tokenizer.save_pretrained(target / "base")
    model.save_pretrained(target / "base")  # before the adapter is added
    peft_model = get_peft_model(
        model.get_model_for_peft(),
        LoraConfig(
            r=4, lora_alpha=8, target_modules=LLM2VEC_MODULES, lora_dropout=0.05, bias="none", task_type=None
        ),
    )
    model.set_model_for_peft(peft_model)
    learn(model, masked_batch(tokenizer))
    batch = masked_batch(tokenizer)
    model.save_peft_model(str(target / "adapter"))
    (target / "adapter" / "README.md").unlink()
    with torch.no_grad():
        outputs = model.eval()(**batch)
        states = model.model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    real = batch["attention_mask"].bool()
    save_file(batch | {"states": states[real]}, target / "batch.safetensors")
    made_by = {name: version(name) for name in ("transformers", "peft", "torch")} | {"llm2vec": llm2vec_version}
    expected = {"loss": float(outputs.loss), "made_by": made_by}
    (target / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer with the mask token that llm2vec's script sets."""
    words = ["<pad>", "<s>", "</s>", "_", *(f"w{index}" for index in range(WORDS))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="_"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # As Llama's, so that the start token is special and never masked.
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", mask_token="_"
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaBiForMNTP:
    """Return llm2vec's model with random weights, large enough for tokens to influence each other."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
        attn_implementation="sdpa",
    )
    return LlamaBiForMNTP(config)


def masked_batch(tokenizer: PreTrainedTokenizerFast) -> dict[str, torch.Tensor]:
    """Return ragged texts, masked and padded by the collator of llm2vec's script."""
    texts = [" ".join(f"w{int(word)}" for word in torch.randint(WORDS, (length,))) for length in LENGTHS]
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)
    options = {"return_special_tokens_mask": True, "return_token_type_ids": False}
    return dict(collate([tokenizer(text, **options) for text in texts]))


def learn(model: LlamaBiForMNTP, batch: dict[str, torch.Tensor]) -> None:
    """Train the adapter a little: B of a fresh one is zero."""
    model.model.train()
    trained = [each for name, each in model.named_parameters() if "lora_" in name]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(STEPS):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    main(Path(sys.argv[1]))
