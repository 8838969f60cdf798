"""Optimiser, schedule, length and hooks, of MMDetection 2.x and 3.x."""

from typing import Any

from razorlite.recipes.openmmlab.blocks import Block, Tree, without

_ROUND = 10  # digits that quotients of theirs are written with


def training(root: Block) -> Tree:
    """Return the `train` block."""
    tree = _length(root)
    wrapper = root.block("optim_wrapper")
    inner = wrapper.block("optimizer") if "optim_wrapper" in root else root.block("optimizer")
    around = wrapper if "optim_wrapper" in root else inner
    tree |= {
        "optimizer": _optimizer(inner),
        "param_options": _options(around.block("paramwise_cfg")),
    }
    tree["clip_grad_norm"] = _clip(root, wrapper)
    tree["accumulate"] = wrapper.take("accumulative_counts")
    if wrapper.type == "AmpOptimWrapper" or "fp16" in root:
        tree["amp"] = "auto"
        wrapper.ignore("loss_scale", "dtype")
    for block in {id(b): b for b in (wrapper, inner)}.values():
        block.finish()
    if tree.get("optimizer"):
        tree["schedule"] = _schedule(root, tree)
    return without({**tree, **_hooks(root)})


def _length(root: Block) -> Tree:
    """Return how long to train and how often to evaluate."""
    loop = root.block("train_cfg")
    if "train_cfg" in root:
        steps = loop.take("max_iters")
        tree = {"max_steps": steps, "max_epochs": None if steps else loop.take("max_epochs")}
        tree["eval_every"] = loop.take("val_interval", 1)
        loop.ignore("type", "by_epoch", "val_begin")
        if "dynamic_intervals" in loop:
            loop.lose("dynamic_intervals", "evaluations at the end are as often as before")
        loop.finish()
        return without(tree)
    runner = root.block("runner")
    steps = runner.take("max_iters")
    epochs = runner.take("max_epochs", root.take("total_epochs"))
    return without(
        {
            "max_steps": steps,
            "max_epochs": None if steps else epochs,
            "eval_every": root.block("evaluation").take("interval", 1),
        }
    )


def _optimizer(block: Block) -> Tree:
    kind = block.type
    block.ignore("type", "paramwise_cfg", "constructor")
    names = [
        name for name in block.node.value if name not in ("type", "paramwise_cfg", "constructor")
    ]
    return {"type": kind, **{name: block.take(name) for name in names}} if kind else {}


def _options(block: Block) -> Tree:
    """Return rates and decays that differ; all parameters decay where theirs says nothing."""
    patterns: Tree = {}
    for name, rule in (block.take("custom_keys") or {}).items():
        patterns[_pattern(name)] = without(dict(rule), lr_mult=1.0, decay_mult=None)
    bias = without({"lr_mult": block.take("bias_lr_mult")}, lr_mult=1.0)
    if bias:
        patterns[_BIASES] = {**bias, "decay_mult": block.take("bias_decay_mult", 1.0)}
    tree: Tree = {
        "norm_decay_mult": block.take("norm_decay_mult", 1.0),
        "bias_decay_mult": 1.0 if bias else block.take("bias_decay_mult", 1.0),
    }
    block.expect("dwconv_decay_mult", 1.0, None)
    block.expect("dcn_offset_lr_mult", 1.0, None)
    block.ignore("bypass_duplicate")
    block.finish()
    return {**tree, "patterns": patterns} if patterns else tree


# biases but those of norms, which theirs leaves alone
_BIASES = r"re:^(?!.*(\.bn\d?|\.gn|\.norms?\.?\d*|downsample\.1)\.bias$).*\.bias$"


def _pattern(name: str) -> str:
    """Return what matches every parameter whose name holds a text, as theirs does."""
    return name if name == "backbone" else f"*{name}*"


def _clip(root: Block, wrapper: Block) -> float | None:
    old = root.block("optimizer_config").block("grad_clip")
    block = wrapper.block("clip_grad") if "clip_grad" in wrapper else old
    norm: float | None = block.take("max_norm")
    block.expect("norm_type", 2)
    block.finish()
    return norm


def _schedule(root: Block, tree: Tree) -> Tree | None:
    if "lr_config" in root:
        return _old_schedule(root.block("lr_config"), tree)
    warmup: Tree = {}
    main: Tree | None = None
    for block in root.blocks("param_scheduler"):
        kind = block.type
        if kind == "LinearLR" and block.take("by_epoch", True):
            text = "a warm-up counted in epochs has no counterpart; left out"
            block.remarks.add(block.node.source, block.path, text)
        elif kind == "LinearLR":
            steps, factor = block.take("end", 0), block.take("start_factor", 1 / 3)
            warmup = {"warmup_steps": steps, "warmup_factor": factor}
            block.ignore("begin", "end_factor")
            block.finish()
        elif main is not None or (main := _part(block, kind, tree)) is None:
            text = f"{kind} has no counterpart beside the others; left out"
            block.remarks.add(block.node.source, block.path, text)
    main = main if main is not None else {"type": "Constant"} if warmup else None
    return None if main is None else {**main, **warmup}


def _part(block: Block, kind: str, tree: Tree) -> Tree | None:
    """Return what comes after the warm-up."""
    begin, end = block.take("begin", 0), block.take("end")
    by_epoch = block.take("by_epoch", True)
    block.ignore("T_max", "convert_to_iter_based", "verbose")
    total = tree.get("max_epochs") if by_epoch else tree.get("max_steps")
    if total is None and kind != "MultiStepLR" and (begin or end):
        text = f"from {begin} to {end or 'the end'}, in {'epochs' if by_epoch else 'steps'}, which "
        text += "the length of the run is not counted in: taken from its first step to its last"
        block.remarks.add(block.node.source, block.path, f"{kind} {text}")
    rate = tree["optimizer"].get("lr", 1.0)
    least = block.take("eta_min", 0.0) / rate if rate else 0.0
    least = round(block.take("eta_min_ratio", least), _ROUND)
    if kind == "MultiStepLR":
        milestones = [begin + one for one in block.take("milestones")]  # they count from there
        return _steps(milestones, block.take("gamma", 0.1), by_epoch)
    if kind == "PolyLR":
        return without({"type": "Poly", "power": block.take("power", 1.0), "min_factor": least})
    if kind != "CosineAnnealingLR" or (end and total and end != total):
        return None
    if begin and total:
        return {"type": "FlatCosine", "flat": round(begin / total, _ROUND), "min_factor": least}
    return without({"type": "Cosine", "min_factor": least}, min_factor=0.0)


def _steps(milestones: Any, gamma: float, by_epoch: bool) -> Tree:
    tree = {"type": "MultiStep", "milestones": milestones, "gamma": gamma}
    return without({**tree, "unit": "epoch" if by_epoch else "step"}, gamma=0.1, unit="epoch")


def _old_schedule(block: Block, tree: Tree) -> Tree | None:
    policy, rate = block.take("policy"), tree["optimizer"].get("lr", 1.0)
    warmup: Tree = {}
    if block.take("warmup") == "linear":
        warmup = {"warmup_steps": block.take("warmup_iters", 0)}
        warmup["warmup_factor"] = block.take("warmup_ratio", 0.1)
    elif "warmup" in block:
        block.lose("warmup", f"a warm-up that is {block.take('warmup')} has no counterpart")
    by_epoch = block.take("by_epoch", True)
    least = block.take("min_lr_ratio", block.take("min_lr", 0.0) / rate if rate else 0.0)
    if policy == "step":
        steps = block.take("step")
        milestones = steps if isinstance(steps, list) else [steps]
        main: Tree = _steps(milestones, block.take("gamma", 0.1), by_epoch)
    elif policy in ("CosineAnnealing", "poly", "FlatCosineAnnealing"):
        kinds = {"CosineAnnealing": "Cosine", "poly": "Poly", "FlatCosineAnnealing": "FlatCosine"}
        main = {
            "type": kinds[policy],
            "min_factor": round(least, _ROUND),
            "power": block.take("power"),
        }
        main["flat"] = block.take("start_percent")
    else:
        block.lose("policy", f"the schedule {policy} has no counterpart")
        return None
    block.finish()
    return without({**main, **warmup})


def _hooks(root: Block) -> Tree:
    """Return what hooks do: averaging, logging, keeping."""
    hooks = root.block("default_hooks")
    log = hooks.block("logger") if "logger" in hooks else root.block("log_config")
    keeping = (
        hooks.block("checkpoint") if "checkpoint" in hooks else root.block("checkpoint_config")
    )
    tree: Tree = {"log_every": log.take("interval", 50)}
    tree["save_every"] = keeping.take("interval")
    tree["keep"] = max(0, int(keeping.take("max_keep_ckpts", 0)) - 1)
    for hook in root.blocks("custom_hooks"):
        kind = hook.type
        if kind in ("EMAHook", "ExpMomentumEMAHook"):
            tree["ema"] = _average(hook, kind)
        elif kind not in ("PipelineSwitchHook", "NumClassCheckHook", "CheckInvalidLossHook"):
            text = f"the hook {kind} has no counterpart; left out"
            hook.remarks.add(hook.node.source, hook.path, text)
    return without(tree, keep=0)


def _average(hook: Block, kind: str) -> Tree:
    rising = "ExpMomentum" in str(hook.take("ema_type", kind))
    decay = round(1 - hook.take("momentum", 0.0002), _ROUND)
    hook.ignore("update_buffers", "priority", "type", "resume_from")
    tree = {"decay": decay, "warmup_steps": None if rising else 0}
    if rising and hook.take("gamma", 2000) != 2000:
        tree["warmup_steps"] = hook.take("gamma")
    hook.ignore("total_iter")
    hook.finish()
    return without(tree)
