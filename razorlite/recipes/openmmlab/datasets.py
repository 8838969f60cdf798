"""Data sets, batches and metrics, of MMDetection 2.x (`data`) and 3.x (`train_dataloader`, …)."""

from collections.abc import Callable, Iterator
from typing import Any

from razorlite.core.yaml_lines import Node
from razorlite.recipes.openmmlab.blocks import Block, Tree, without
from razorlite.recipes.openmmlab.pipelines import Pipeline, pipeline

SPLITS = ("train", "val", "test")
_GPUS = 8  # that their learning rates are for, where nothing else is given
_VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
)
_SHORT_SHAPE = 32  # pixels; shapes are multiples of it


def data(root: Block) -> Tree:
    """Return the `data` block, and `metric` and `shape`, which follow from it."""
    loaders = _loaders(root)
    converted = {split: _split(loaders[split], split, root) for split in SPLITS if split in loaders}
    tree: Tree = {split: block for split, (block, _) in converted.items()}
    pipelines = [found for _, found in converted.values()]
    result: Tree = {"data": {**_pixels(root, pipelines), **tree}, "metric": _metric(root)}
    watched = converted.get("val") or converted.get("test")
    shape = _shape(watched[1]) if watched else None
    return without({**result, "shape": shape})


def _loaders(root: Block) -> dict[str, tuple[Block, Block]]:
    """Return of each split the block that holds sizes of batches, and that of the data set."""
    if "data" in root:
        both = root.block("data")
        found = {split: (both, both.block(split)) for split in SPLITS if split in both}
        both.ignore("train_dataloader", "val_dataloader", "test_dataloader", "persistent_workers")
        return found
    names = {split: f"{split}_dataloader" for split in SPLITS}
    blocks = {split: root.block(key) for split, key in names.items() if key in root}
    return {split: (block, block.block("dataset")) for split, block in blocks.items()}


def _split(loader: tuple[Block, Block], split: str, root: Block) -> tuple[Tree, Pipeline]:
    around, dataset = loader
    transforms: list[Block] = []
    tree = _dataset(dataset, transforms, training=split == "train")
    found = pipeline(transforms, height_first="data" in root)  # which 2.x has
    if found.masks and tree is not None:
        _take_masks(tree)
    each = around.take("batch_size", around.take("samples_per_gpu", 1))
    workers = around.take("num_workers", around.take("workers_per_gpu", 0))
    result: Tree = {"batch_size": each, "num_workers": workers}
    if split == "train":
        result["batch_size"] = _batch_of_all(root, each)
    around.ignore("persistent_workers", "drop_last", "sampler", "batch_sampler", "pin_memory")
    around.ignore("collate_fn")
    if around is not root and "data" not in root:
        around.finish()
    last = _last_epochs(root) if split == "train" else None
    result |= {"dataset": tree, "transforms": found.transforms, "last_epochs": last}
    return without(result, num_workers=0), found


def _take_masks(tree: Tree) -> None:
    """Let the data sets of a block, itself or inside it, read masks."""
    if tree["type"] == "CocoDataset":
        tree["masks"] = True
    for inner in (*tree.get("datasets", ()), tree.get("dataset")):
        if inner is not None:
            _take_masks(inner)


def _batch_of_all(root: Block, each: int) -> int:
    """Return the images of a step over all processes, which the learning rate is for."""
    base = root.block("auto_scale_lr").take("base_batch_size")
    total = int(base or each * _GPUS)
    if base is None:
        text = f"{each} images on each of {_GPUS} GPUs are taken for a batch of {total} in all"
        root.remarks.add(root.node.source, "data.train.batch_size", text)
    return total


def _last_epochs(root: Block) -> Tree | None:
    """Return other transforms for the end of training."""
    for hook in root.blocks("custom_hooks"):
        if hook.type == "PipelineSwitchHook":
            total = root.block("train_cfg").take("max_epochs", 0)
            found = pipeline(hook.blocks("switch_pipeline"), height_first=False)  # of 3.x
            epochs = total - hook.take("switch_epoch", total)
            return {"epochs": epochs, "transforms": found.transforms} if epochs > 0 else None
    return None


def _dataset(block: Block, transforms: list[Block], *, training: bool) -> Tree | None:
    """Return a data set; its pipeline's blocks are added to `transforms`."""
    kind = block.type
    if kind in _AROUND:
        return _AROUND[kind](block, transforms, training)
    if kind not in _SETS:
        block.remarks.add(
            block.node.source, block.path, f"the data set {kind} has no counterpart; left out"
        )
        return None
    if not transforms:
        transforms += block.blocks("pipeline")
    parts = [_one_set(one, training) for one in _each_file(block)]
    return parts[0] if len(parts) == 1 else {"type": "ConcatDataset", "datasets": parts}


def _each_file(block: Block) -> Iterator[Block]:
    """Yield a block for each of several annotation files with their folders (2.x), else itself."""
    children: dict[str, Node] = block.node.value
    files = children["ann_file"].value if "ann_file" in block else None
    if not isinstance(files, list):
        yield block
        return
    for number, file in enumerate(files):
        own = {**children, "ann_file": file}
        folders = children["img_prefix"].value if "img_prefix" in block else None
        if isinstance(folders, list):
            own["img_prefix"] = folders[number]
        yield Block(Node(own, block.node.source), block.path, block.remarks)


def _one_set(block: Block, training: bool) -> Tree:
    block.ignore("pipeline", "test_mode", "backend_args", "file_client_args", "return_classes")
    block.ignore("separate_eval")
    tree = _SETS[block.type](block, training)
    block.finish()
    return without(tree)


def _coco(block: Block, training: bool) -> Tree:
    folder = block.take("data_root", "")
    prefix = block.block("data_prefix")
    images = prefix.take("img", block.take("img_prefix", ""))
    tree: Tree = {"type": "CocoDataset", "annotation": _join(folder, block.take("ann_file", ""))}
    tree["images"] = _join(folder, images)
    tree["classes"] = _classes(block)
    kept = block.block("filter_cfg")
    filtered = kept.take("filter_empty_gt", block.take("filter_empty_gt", "ann_file" in block))
    old = "filter_cfg" not in block
    tree["keep_empty"] = (
        False if training and filtered and (old or "filter_empty_gt" in kept) else None
    )
    tree["check_images"] = False
    kept.ignore("filter_empty_gt")
    if kept.take("min_size", 0) > 0:
        kept.lose("min_size", "images are trained on whatever their size")
    for one in (kept, prefix):
        one.finish()
    block.ignore("img_prefix", "seg_prefix", "proposal_file")
    return tree


def _voc(block: Block, training: bool) -> Tree:
    prefix = block.block("data_prefix")
    part = prefix.take("sub_data_root", block.take("img_prefix", ""))
    folder, split = block.take("data_root", ""), block.take("ann_file", "")
    root = _join(folder, part) or "."
    relative = _join(folder, split).removeprefix(root.rstrip("/") + "/")
    tree: Tree = {"type": "VocDataset", "root": root, "split": relative}
    tree["classes"] = _classes(block) or _VOC.split()
    tree["one_based"] = True
    kept = block.block("filter_cfg")
    tree["keep_empty"] = False if training and kept.take("filter_empty_gt", True) else None
    tree["check_images"] = False
    kept.ignore("bbox_min_size")
    if kept.take("min_size", 0) > 0:
        kept.lose("min_size", "images are trained on whatever their size")
    for one in (kept, prefix):
        one.finish()
    return tree


def _classes(block: Block) -> list[str] | None:
    info = block.block("metainfo")
    names = info.take("classes", info.take("CLASSES", block.take("classes")))
    info.ignore("palette", "PALETTE", "CLASSES")
    info.finish()
    if isinstance(names, str):
        block.lose("classes", f"names in a file ({names}) have no counterpart")
        return None
    return list(names) if names else None


def _repeated(block: Block, transforms: list[Block], training: bool) -> Tree:
    inner = _dataset(block.block("dataset"), transforms, training=training)
    tree = {"type": "RepeatDataset", "times": block.take("times", 1), "dataset": inner}
    block.finish()
    return tree


def _balanced(block: Block, transforms: list[Block], training: bool) -> Tree:
    inner = _dataset(block.block("dataset"), transforms, training=training)
    tree = {
        "type": "ClassBalancedDataset",
        "threshold": block.take("oversample_thr"),
        "dataset": inner,
    }
    block.finish()
    return without(tree)


def _joined(block: Block, transforms: list[Block], training: bool) -> Tree:
    parts = [_dataset(one, transforms, training=training) for one in block.blocks("datasets")]
    block.ignore("separate_eval", "ignore_keys")
    block.finish()
    return {"type": "ConcatDataset", "datasets": parts}


def _mixed(block: Block, transforms: list[Block], training: bool) -> Tree | None:
    """Return the data set inside; the transforms around it follow its own."""
    inner = _dataset(block.block("dataset"), transforms, training=training)
    transforms += block.blocks("pipeline")
    block.ignore("max_refetch")
    block.finish()
    return inner


def _pixels(root: Block, pipelines: list[Pipeline]) -> Tree:
    """Return how pixels become a model's input: of the model (3.x), or of a pipeline (2.x)."""
    block = root.block("model").block("data_preprocessor")
    found: Tree = next((p.normalise for p in pipelines if p.normalise), {}) or {}
    tree: Tree = {name: block.take(name, found.get(name)) for name in ("mean", "std")}
    tree = tree if tree["mean"] else {"mean": [0.0] * 3, "std": [1.0] * 3}
    rgb = block.take("bgr_to_rgb", found.get("to_rgb", False))
    pads = [p.pad_multiple for p in pipelines if p.pad_multiple]
    multiple = block.take("pad_size_divisor", pads[0] if pads else 1)
    block.expect("batch_augments", None)
    block.expect("rgb_to_bgr", False)
    block.ignore("type", "pad_mask", "mask_pad_value", "pad_value", "boxtype2tensor")
    block.finish()
    channels = None if rgb else "bgr"
    return without({**tree, "channels": channels, "pad_multiple": multiple})


def _metric(root: Block) -> Tree:
    """Return the metric of val."""
    old = root.block("evaluation")
    block = old if "evaluation" in root else root.block("val_evaluator")
    kinds = block.take("metric", "bbox")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if block.type == "VOCMetric" or "mAP" in kinds:
        points = "11" if block.take("eval_mode", _usual_mode(root)) == "11points" else "all"
        return without({"type": "VocMetric", "points": points, "pixel_offset": 1.0}, points="all")
    return without({"type": "CocoMetric", "kind": "both" if "segm" in kinds else None})


def _usual_mode(root: Block) -> str:
    """Return how theirs counts precision where it is not said: 2.x goes by the images' folder."""
    if "evaluation" not in root:
        return "11points"
    folders = str(root.block("data").block("val").take("img_prefix", ""))
    return "11points" if "VOC2007" in folders else "area"


def _shape(found: Pipeline) -> list[int] | None:
    """Return the size that costs are stated for: what images of tests are resized to."""
    for tree in found.transforms:
        if tree["type"] == "Resize" and "size" in tree:
            return list(tree["size"])
        if tree["type"] == "Resize" and isinstance(tree["short"], int):
            return [_whole(tree["short"]), _whole(tree["long"])]
    return None


def _whole(side: int) -> int:
    return max(_SHORT_SHAPE, side // _SHORT_SHAPE * _SHORT_SHAPE)


def _join(folder: str, name: Any) -> str:
    """Return a path below the data's folder, as theirs joins them."""
    text = str(name)
    if not folder or text.startswith("/"):
        return text
    return f"{folder.rstrip('/')}/{text}" if text else folder


_SETS: dict[str, Callable[[Block, bool], Tree]] = {"CocoDataset": _coco, "VOCDataset": _voc}
_AROUND: dict[str, Callable[[Block, list[Block], bool], Tree | None]] = {
    "RepeatDataset": _repeated,
    "ClassBalancedDataset": _balanced,
    "ConcatDataset": _joined,
    "MultiImageMixDataset": _mixed,
}
