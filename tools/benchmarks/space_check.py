"""Whether costs and weights of random subnets are those of the exported models, in every space.

Each subnet's MACs and parameters from the table are compared with those that PyTorch's
FlopCounterMode counts on the exported model, at the input that its configuration names; with few
bits, bit-operations are added up from the exported convolutions. The outputs of the supernet set to
a subnet are compared with those of the exported model, on one small image of noise, in float32.

    python tools/benchmarks/space_check.py

prints one JSON line for each space: how many of the counts agree to the unit, how many of the
forwards to the bit, and the greatest difference of a forward as a share of its largest output. Its
exit status is 1 where a count differs, or a forward by more than 1e-6.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite.cost import BitOperations, CostModel, JoinedCost, count, tabulate  # noqa: E402
from razorlite.models.rounded import RoundedConv2d  # noqa: E402
from razorlite.recipes.building import build  # noqa: E402
from razorlite.recipes.experiment import read  # noqa: E402
from razorlite.search.spaces import MixedPrecision  # noqa: E402
from razorlite.space import SearchSpace, Subnet  # noqa: E402
from razorlite.structures import example_inputs, map_tensors, tensors_in  # noqa: E402

WIDTHS = {"type": "ChannelWidths", "shares": [0.25, 0.5, 0.75]}
SPACES: Mapping[str, str | Mapping[str, Any]] = {
    "SPOS ShuffleNetV2, blocks": "spos/shufflenetv2_spos_imagenet",
    "SPOS ShuffleNetV2, blocks and channels": "spos/shufflenetv2_widths_imagenet",
    "SPOS/ProxylessNAS MobileNetV2": "spos/mobilenetv2_spos_cifar10",
    "Once-for-All MobileNetV3": "ofa/mobilenetv3_ofa_imagenet",
    "Once-for-All ProxylessNAS": "ofa/proxyless_ofa_imagenet",
    "ResNet channels": "prune/resnet_autoslim_cifar10",
    "ResNet channels and kernels": "ranking/cifar10_elastic",
    "ResNet-18 mixed precision": "spos/resnet18_bits_imagenet",
    "ResNet-34 mixed precision": "spos/resnet34_bits_imagenet",
    "RTMDet, all of it": "rtmdet/rtmdet_tiny_space_coco",
    "DETR": "detr/detr_r50_space_coco",
    "torchvision's RetinaNet, channel groups": {
        "model": {
            "type": "TorchvisionDetector",
            "name": "retinanet_resnet50_fpn",
            "num_classes": 3,
        },
        "mutator": WIDTHS,
        "shape": [320, 320],
    },
    "torchvision's MobileNetV2, channel groups": {
        "model": {"type": "torchvision.models.mobilenet_v2"},
        "mutator": WIDTHS,
        "shape": [224, 224],
    },
    "FCOS, SPOS backbone": "spos/fcos_spos_bccd_supernet",
    "FCOS, Once-for-All backbone": "ofa/fcos_ofa_bccd_supernet",
}


def main() -> None:
    """Check and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=SPACES)
    parser.add_argument("--counted", type=int, default=200, help="subnets whose cost is counted")
    parser.add_argument("--run", type=int, default=50, help="subnets that are run")
    parser.add_argument("--side", type=int, default=64, help="of the image that they are run on")
    args = parser.parse_args()
    sound = True
    for name in args.spaces:
        start = time.perf_counter()
        found = {**counts(SPACES[name], args.counted), **runs(SPACES[name], args.run, args.side)}
        seconds = round(time.perf_counter() - start)
        print(json.dumps({"space": name, **found, "seconds": seconds}), flush=True)
        sound &= found["counts_equal"] == found["counted"] and found["greatest_difference"] <= 1e-6
    sys.exit(not sound)


def counts(config: str | Mapping[str, Any], number: int) -> dict[str, Any]:
    """Compare the table's costs with those counted on exported models, on shapes alone."""
    _, experiment = read(config)
    with torch.device("meta"):
        space = build(experiment).space
    assert space is not None
    costs = table(space, experiment.shape, has_bits(experiment.preparers))
    equal = sum(
        dict(costs_of(costs, s, space)) == counted(space, s, experiment.shape, costs.names)
        for s in subnets(space, number)
    )
    return {"dimensions": len(space.counts), "counted": number, "counts_equal": equal}


def has_bits(preparers: Any) -> bool:
    """Return whether layers round."""
    return any(isinstance(preparer, MixedPrecision) for preparer in preparers)


def table(space: SearchSpace, shape: tuple[int, int], bits: bool) -> CostModel:
    """Return MACs and parameters, and bit-operations where layers round."""
    own = [BitOperations(space, shape=shape)] if bits else []
    return JoinedCost([tabulate(space, shape), *own])


def subnets(space: SearchSpace, number: int) -> list[Subnet]:
    """Return random subnets."""
    rng = np.random.default_rng(0)
    return [space.random(rng) for _ in range(number)]


def costs_of(costs: CostModel, subnet: Subnet, space: SearchSpace) -> dict[str, int]:
    """Return the table's costs of a subnet."""
    found = costs.many(space.encode(subnet)[None])
    return {name: found[name].item() for name in costs.names}


def counted(
    space: SearchSpace, subnet: Subnet, shape: tuple[int, int], names: Any
) -> dict[str, int]:
    """Return the costs counted on the exported model."""
    exported = space.export(subnet)
    cost = count(exported, shape)
    found = {"macs": cost.macs, "params": cost.params}
    if "bitops" in names:
        rounded = {n: m for n, m in exported.named_modules() if isinstance(m, RoundedConv2d)}
        few = sum(cost.modules[n].macs * bits_of(m) for n, m in rounded.items())
        exact = cost.macs - sum(cost.modules[n].macs for n in rounded)
        found["bitops"] = few + exact * 32 * 32
    return found


def bits_of(layer: RoundedConv2d) -> int:
    """Return the product of the bits of weights and inputs."""
    return layer.weight_bits * layer.input_bits


def runs(config: str | Mapping[str, Any], number: int, side: int) -> dict[str, Any]:
    """Compare the outputs of the supernet set to subnets with those of the exported models."""
    torch.manual_seed(0)
    space = build(read(config, {"shape": [side, side]})[1]).space
    assert space is not None
    draw_statistics(space.model)
    differences = [difference(space, subnet, side) for subnet in subnets(space, number)]
    equal = sum(d == 0 for d in differences)
    return {"run": number, "bitwise_equal": equal, "greatest_difference": max(differences)}


def draw_statistics(model: nn.Module) -> None:
    """Give norms statistics and weights of their own, else wrong ones would not show."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)


@torch.no_grad()
def difference(space: SearchSpace, subnet: Subnet, side: int) -> float:
    """Return the greatest difference of two forwards, as a share of the largest output."""
    inputs = map_tensors(torch.randn_like, example_inputs(space.model, (side, side)))
    space.select(subnet)
    ours = list(tensors_in(space.model.eval()(inputs)))
    theirs = list(tensors_in(space.export(subnet).eval()(inputs)))
    assert len(ours) == len(theirs) > 0
    return max(map(distance, ours, theirs))


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Return the greatest difference of two tensors, as a share of the largest value."""
    assert ours.shape == theirs.shape
    assert ours.numel() > 0
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-9))


if __name__ == "__main__":
    main()
