"""Python configurations of MMDetection 2.x and 3.x as YAML of ours."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.core.files import write_text_atomic
from razorlite.core.yaml_lines import Node
from razorlite.recipes.checking import check_config
from razorlite.recipes.openmmlab.blocks import Block, Remarks, Tree, without
from razorlite.recipes.openmmlab.datasets import data
from razorlite.recipes.openmmlab.expressions import plain
from razorlite.recipes.openmmlab.files import read_source
from razorlite.recipes.openmmlab.models import detector
from razorlite.recipes.openmmlab.training import training

# options of theirs that are taken, or say nothing about models, data and training
_TAKEN = {
    *("model", "data", "train_dataloader", "val_dataloader", "test_dataloader", "train_cfg"),
    *("val_cfg", "test_cfg", "val_evaluator", "test_evaluator", "optim_wrapper", "optimizer"),
    *("param_scheduler", "optimizer_config", "lr_config", "runner", "total_epochs", "evaluation"),
    *("checkpoint_config", "log_config", "default_hooks", "custom_hooks", "auto_scale_lr", "fp16"),
    *("load_from", "default_scope", "env_cfg", "vis_backends", "visualizer", "log_processor"),
    *("log_level", "launcher", "resume", "resume_from", "dist_params", "workflow", "work_dir"),
    *("opencv_num_threads", "mp_start_method", "gpu_ids", "seed", "randomness", "cudnn_benchmark"),
}
_OTHERS = {
    "tta_model": "razorlite predict --augment looks at images in several ways",
    "tta_pipeline": "razorlite predict --augment looks at images in several ways",
    "custom_imports": "modules written for MMDetection do not register types here",
}


@dataclass(frozen=True)
class Conversion:
    """A configuration of ours made of one of theirs.

    Attributes:
        tree: the configuration.
        remarks: what it lacks and why, "file.py:12: model.neck.foo: …" each.
    """

    tree: Tree
    remarks: list[str]

    def text(self, source: str | Path) -> str:
        """Return it as YAML, the remarks in front."""
        lines = [f"# Converted from {source} by razorlite config convert."]
        if self.remarks:
            lines += ["# What has no counterpart, or not quite the same one:"]
            lines += [f"#   {remark}" for remark in self.remarks]
        body = yaml.safe_dump(
            self.tree, sort_keys=False, allow_unicode=True, default_flow_style=None, width=98
        )
        return "\n".join([*lines, body])


def converted(source: str | Path) -> Conversion:
    """Return what a Python configuration of MMDetection 2.x or 3.x comes to; nothing of it is run.

    Args:
        source: the file; its `_base_` files are looked for where they say.

    Raises:
        ConfigError: a file cannot be read, or the model has no counterpart.
    """
    read = read_source(Path(source))
    remarks = Remarks(list(read.remarks))
    root = Block(Node(read.tree, str(source)), "", remarks)
    if "model" not in root:
        raise ConfigError(f"{source}: no model; expected a configuration of MMDetection")
    tree: Tree = {"model": detector(root.block("model")), **data(root), "train": training(root)}
    if "val" not in tree.get("data", {}):
        tree["train"].pop("eval_every", None)  # there is nothing to evaluate on
    tree = without({**tree, "load_from": root.take("load_from")})
    for name, node in read.tree.items():
        if name in _OTHERS:
            remarks.add(node.source, name, f"left out; {_OTHERS[name]}")
        elif name not in _TAKEN and name not in read.read:
            remarks.add(node.source, name, f"{_shown(node)} is used by nothing here; left out")
    return Conversion(tree, remarks.lines)


def convert_config(source: str | Path, out: str | Path) -> list[str]:
    """Write a configuration of MMDetection 2.x or 3.x as YAML, and check it.

    Args:
        source: the Python file, of which nothing is run.
        out: the file to write; it must not exist.

    Returns:
        What is left out and why, and remarks of the check, one a line.

    Raises:
        ConfigError: a file cannot be read, the model has no counterpart, or the check finds faults;
            the file is there then, to be corrected.
        RunFolderError: the file is there already, or cannot be written.
    """
    path = Path(out)
    if path.exists():
        raise RunFolderError(f"{path} is there already; name another file or remove it")
    conversion = converted(source)
    write_text_atomic(path, conversion.text(source))
    return [*conversion.remarks, *check_config(path)]


def _shown(node: Node) -> str:
    text = repr(plain(node))
    return text if len(text) <= 60 else f"{text[:57]}..."
