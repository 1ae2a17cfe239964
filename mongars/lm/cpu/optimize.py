"""The one entry to everything that makes a model faster on a CPU.

Results stay the same but for rounding. Without the optimizations only public operations of torch compute;
MONGARS_CPU_OPTIMIZATIONS switches them off.
"""

from torch import nn

from mongars.lm.architecture import is_like_llama
from mongars.lm.cpu.fused_linear import fuse_projections
from mongars.lm.cpu.malloc import tune_glibc_malloc
from mongars.lm.cpu.onednn import onednn_is_faster, pack_weights, use_onednn

_MARK = "cpu_optimized"


def optimize_for_cpu(model: nn.Module, *, pack: bool = False) -> None:
    """Optimize a freshly loaded causal model in place.

    Its linear layers multiply by oneDNN where that is faster than MKL, projections of the same input are fused,
    and glibc keeps freed memory. Trees are cloned from it by `clone_module_tree`, fuse their adapters, and attend
    by products in bf16. `pack` also packs the weights, for a model that stays on the CPU and is not trained.
    """
    if onednn_is_faster():
        use_onednn(model)
    if is_like_llama(model):
        fuse_projections(model)
    if pack:
        pack_weights(model)
    tune_glibc_malloc()
    for module in (model, model.base_model):
        setattr(module, _MARK, True)


def is_optimized(model: nn.Module) -> bool:
    """Return whether a causal model, its decoder, or what it was cloned from was optimized."""
    return bool(getattr(model, _MARK, False))
