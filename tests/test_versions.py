"""What of other libraries may change under us: every private attribute that we use, and what versions call differently."""

from __future__ import annotations

import ast
import copyreg
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import diffusers
import families
import pytest
import torch
import transformers
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from diffusers.hooks import HookRegistry
from diffusers.models.modeling_utils import ModelMixin
from packaging.version import Version

from negguide import versions
from negguide.engine.shared_attention import partial_attention

SOURCE = Path(versions.__file__).parent
NO_NAMES = {"_modular", "_single_lora"}
"""Texts that look like private names: an ending of DreamSim's files."""
PRIVATE_NAME = re.compile(r"_[a-z][a-z0-9_]*")


def _has_run() -> Any:
    families.run("sd15")
    return families.build("sd15")


def _hooked() -> torch.nn.Module:
    module = torch.nn.Linear(1, 1)
    HookRegistry.check_if_exists_or_initialize(module)
    return module


def _loaded(folder: Path) -> Any:
    families.build("sd15").save_pretrained(folder)
    return DiffusionPipeline.from_pretrained(str(folder), safety_checker=None)


def _guider_has(name: str) -> bool:
    """Whether guiders have it, or have a form that negguide.guiders refuses."""
    guider = getattr(diffusers, "ClassifierFreeGuidance", None)
    return not hasattr(guider, "prepare_inputs_from_block_state") or hasattr(guider(), name)


def _adapted(name: str) -> bool:
    """Whether layers with an adapter have it."""
    return hasattr(pytest.importorskip("peft.tuners.tuners_utils").BaseTunerLayer, name)


def _modular_has(name: str) -> bool:
    """Whether modular pipelines have it, or this diffusers has none of the form that is entered."""
    modular = getattr(diffusers, "ModularPipeline", None)
    known = hasattr(getattr(diffusers, "ClassifierFreeGuidance", None), "prepare_inputs_from_block_state")
    return modular is None or not known or name in modular.__init__.__code__.co_names


ALSO_OURS = {"_execution_device", "_num_inference_steps"}
"""Names of which we define something, too, so that their use is not seen."""
PRIVATE: dict[str, Callable[[Path], bool]] = {
    "_active_adapter": lambda _: _adapted("_active_adapter"),
    "_all_hooks": lambda _: "_all_hooks" in DiffusionPipeline.maybe_free_model_hooks.__code__.co_names,
    "_begin_index": lambda _: hasattr(EulerDiscreteScheduler(), "_begin_index"),
    "_blocks": lambda _: _modular_has("_blocks"),
    "_buffers": lambda _: "running_mean" in torch.nn.BatchNorm1d(1)._buffers,
    "_compiled_call_impl": lambda _: hasattr(torch.nn.Linear(1, 1), "_compiled_call_impl"),
    "_count_prepared": lambda _: _guider_has("_count_prepared"),
    "_diffusers_hook": lambda _: hasattr(_hooked(), "_diffusers_hook"),
    "_disable_adapters": lambda _: _adapted("_disable_adapters"),
    "_dynamo": lambda _: hasattr(torch._dynamo.config, "skip_nnmodule_hook_guards"),
    "_enabled": lambda _: _guider_has("_enabled"),
    "_execution_device": lambda _: hasattr(families.build("sd15"), "_execution_device"),
    "_fields": lambda _: NamedTuple("Pair", [("first", int)])._fields == ("first",),
    "_forward_hooks": lambda _: hasattr(torch.nn.Linear(1, 1), "_forward_hooks"),
    "_forward_pre_hooks": lambda _: hasattr(torch.nn.Linear(1, 1), "_forward_pre_hooks"),
    "_getframe": lambda _: hasattr(sys, "_getframe"),
    "_guidance_scale": lambda _: hasattr(_has_run(), "_guidance_scale"),
    "_modules": lambda _: "0" in torch.nn.Sequential(torch.nn.Identity())._modules,
    "_name_or_path": lambda folder: "_name_or_path" in _loaded(folder).config,
    "_num_inference_steps": lambda _: _guider_has("_num_inference_steps"),
    "_num_timesteps": lambda _: hasattr(_has_run(), "_num_timesteps"),
    "_orig_mod": lambda _: hasattr(torch.compile(torch.nn.Linear(1, 1)), "_orig_mod"),
    "_parallel_config": lambda _: (
        hasattr(ModelMixin, "_parallel_config") or not hasattr(ModelMixin, "enable_parallelism")
    ),
    "_prepare_batch": lambda _: _guider_has("_prepare_batch"),
    "_progress_bar_config": lambda _: "_progress_bar_config" in families.build("sd15").__dict__,
    "_reconstructor": lambda _: hasattr(copyreg, "_reconstructor"),
    "_scaled_dot_product_efficient_attention": lambda _: hasattr(
        torch.ops.aten, "_scaled_dot_product_efficient_attention"
    ),
    "_scaled_dot_product_flash_attention_for_cpu": lambda _: partial_attention("cpu", torch.float32) is not None,
    "_step_index": lambda _: hasattr(EulerDiscreteScheduler(), "_step_index"),
    "_timestep": lambda _: _guider_has("_timestep"),
}
"""Private name of diffusers, transformers, torch or Python that the package uses -> whether it is still there."""


def _private_names() -> dict[str, set[str]]:
    """Every private name that the package uses and does not define -> the files that do."""
    trees = {str(file.relative_to(SOURCE)): ast.parse(file.read_text()) for file in SOURCE.rglob("*.py")}
    own, used = set(), defaultdict(set)
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.arg):
                own.add(node.arg)
            elif isinstance(node, ast.alias):
                own.add(node.asname or "")
                used[node.name.rpartition(".")[2]].add(name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.Attribute):
                is_own = isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name)
                (own.add(node.attr) if is_own and node.value.id in ("self", "cls") else used[node.attr].add(name))  # type: ignore[attr-defined]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used[node.value].add(name)
    return {
        name: files
        for name, files in used.items()
        if PRIVATE_NAME.fullmatch(name) and not name.startswith("_negguide") and name not in own | NO_NAMES
    }


def test_the_list_of_private_names_is_complete() -> None:
    used = _private_names()
    assert {name: files for name, files in used.items() if name not in PRIVATE} == {}, "used, but not in PRIVATE"
    assert [name for name in PRIVATE if name not in used and name not in ALSO_OURS] == [], (
        "in PRIVATE, but no longer used"
    )


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_name_that_we_use_is_still_there(name: str, tmp_path: Path) -> None:
    assert PRIVATE[name](tmp_path), f"{name} is gone, which {', '.join(sorted(_private_names()[name]))} use"


def test_the_argument_for_a_dtype_is_known_to_this_diffusers_and_transformers(tmp_path: Path) -> None:
    families.build("sd15").save_pretrained(tmp_path)
    half = versions.dtype_argument(diffusers, torch.float16)
    pipe = DiffusionPipeline.from_pretrained(str(tmp_path), safety_checker=None, **half)
    assert pipe.unet.dtype == pipe.text_encoder.dtype == torch.float16
    half = versions.dtype_argument(transformers, torch.float16)
    assert transformers.CLIPTextModel.from_pretrained(tmp_path / "text_encoder", **half).dtype == torch.float16


@pytest.mark.parametrize(
    ("library", "version", "argument"),
    [
        ("diffusers", "0.35.0", "torch_dtype"),
        ("diffusers", "0.42.1", "dtype"),
        ("diffusers", "1.0.0.dev0", "dtype"),
        ("transformers", "4.51.3", "torch_dtype"),
        ("transformers", "4.57.6", "dtype"),
        ("transformers", "5.23.0", "dtype"),
    ],
)
def test_the_argument_for_a_dtype_of_other_versions(library: str, version: str, argument: str) -> None:
    module: Any = SimpleNamespace(__name__=library, __version__=version)
    assert versions.dtype_argument(module, torch.float16) == {argument: torch.float16}


def test_a_tokenizer_is_made_from_its_vocabulary() -> None:
    vocab = {
        token: place for place, token in enumerate(["a", "b", "b</w>", "ab</w>", "<|startoftext|>", "<|endoftext|>"])
    }
    made = versions.byte_pair_tokenizer(transformers.CLIPTokenizer, vocab, [("a", "b</w>")], model_max_length=7)
    assert made("ab").input_ids == [4, 3, 5] and made.model_max_length == 7


def test_families_that_are_skipped_by_name_are_there_in_the_locked_versions() -> None:
    if Version(diffusers.__version__) >= Version("0.42"):
        assert [need for need in families.NEWER.values() if not hasattr(diffusers, need)] == []
