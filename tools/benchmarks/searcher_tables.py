"""Tables of whole search spaces, in the form of NAS-Bench-Macro, to compare searchers on.

A table names each architecture by a digit a place and gives `mean_acc`, `params` and `flops`, which
are MACs.

    python tools/benchmarks/searcher_tables.py synthetic --seed 1 --out synthetic.json
    python tools/benchmarks/searcher_tables.py trained --images CIFAR10.tar.gz --out trained.json

The synthetic one (a second) has 4^6 points; each place adds its share, a third of the pairs of
places interact, and accuracy saturates. The trained one (3 seconds a network, about 40 minutes on
one core) has 3^6: networks of six places (identity, a 3 x 3 convolution, a wider pair of 3 x 3),
each trained for two epochs on 1600 CIFAR-10 images of 16 x 16 pixels and tested on 800 others. Its
largest has 6.8 million MACs; give searchers.py `--limits` below that.
"""

import argparse
import io
import itertools
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

PLACES, KINDS, WIDTHS = 6, 3, (12, 12, 24, 24, 48, 48)
TRAINED, TESTED, SIDE, EPOCHS, BATCH = 1600, 800, 16, 2, 64


def main() -> None:
    """Make a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["synthetic", "trained"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=Path, help="archive of class folders of images")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    made = synthetic(args.seed) if args.kind == "synthetic" else trained(args.images, args.seed)
    args.out.write_text(json.dumps(made))


def synthetic(seed: int, places: int = 6, choices: int = 4) -> dict[str, dict[str, float]]:
    """Return accuracies between 55 and 95 at 20 to 100 million MACs."""
    rng = np.random.default_rng(seed)
    points = np.array(list(itertools.product(range(choices), repeat=places)))
    row = np.arange(places)
    worth = np.sort(rng.normal(size=(places, choices)), axis=1) * rng.uniform(0.3, 1, (places, 1))
    costs = np.sort(rng.uniform(0.2, 3.0, (places, choices)), axis=1)
    gain, macs = worth[row, points].sum(axis=1), costs[row, points].sum(axis=1)
    for i, j in itertools.combinations(range(places), 2):
        if rng.random() < 1 / 3:
            gain += 0.35 * rng.normal(size=(choices, choices))[points[:, i], points[:, j]]
    accuracy = 75 + 20 * np.tanh((gain - gain.mean()) / gain.std() / 2)
    macs = 20e6 + 80e6 * (macs - macs.min()) / np.ptp(macs)
    rows = zip(points.tolist(), accuracy.tolist(), macs.tolist(), strict=True)
    return {"".join(map(str, p)): entry(a, int(m), int(m) // 20) for p, a, m in rows}


def entry(accuracy: float, macs: int, params: int) -> dict[str, float]:
    """Return an architecture's entry."""
    return {"mean_acc": accuracy, "params": params, "flops": macs}


def trained(archive: Path, seed: int) -> dict[str, dict[str, float]]:
    """Train every network of the small space, all from the same seed."""
    torch.set_num_threads(1)
    images, labels = read(archive)
    table = {}
    for point in itertools.product(range(KINDS), repeat=PLACES):
        torch.manual_seed(seed)
        model = network(point)
        train(model, images[:TRAINED], labels[:TRAINED])
        with torch.no_grad():
            found = model.eval()(images[TRAINED:]).argmax(dim=1)
        accuracy = 100 * (found == labels[TRAINED:]).double().mean().item()
        params = sum(p.numel() for p in model.parameters())
        table["".join(map(str, point))] = entry(accuracy, macs(model), params)
    return table


def read(archive: Path) -> tuple[Tensor, Tensor]:
    """Return (N, 3, 16, 16) images and (N,) labels, as many of each class, shuffled."""
    found: dict[str, list[Tensor]] = {}
    most = (TRAINED + TESTED) // 10
    with tarfile.open(archive) as file:
        for member in file:
            if not member.isfile() or not member.name.endswith((".jpg", ".jpeg", ".png")):
                continue
            images = found.setdefault(Path(member.name).parent.name, [])
            if len(images) < most:
                picture = Image.open(io.BytesIO(file.extractfile(member).read())).convert("RGB")
                pixels = np.asarray(picture.resize((SIDE, SIDE)), dtype=np.float32)
                images.append(torch.from_numpy(pixels).permute(2, 0, 1) / 64 - 2)
            if len(found) == 10 and all(len(i) == most for i in found.values()):
                break
    images = torch.stack([image for kind in found.values() for image in kind])
    labels = torch.arange(len(found)).repeat_interleave(most)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]


def network(point: tuple[int, ...]) -> nn.Sequential:
    """Return the network of a point."""
    layers: list[nn.Module] = []
    width = 3
    for place, (kind, out) in enumerate(zip(point, WIDTHS, strict=True)):
        stride = 2 if place in (2, 4) else 1
        if kind == 0 and width == out and stride == 1:
            continue
        layers += block(width, (0, out, 2 * out)[kind], out, stride)
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def block(width: int, inner: int, out: int, stride: int) -> list[nn.Module]:
    """Return a 1 x 1 convolution, or one or two of 3 x 3."""
    if inner == 0:
        return [nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    first = [nn.Conv2d(width, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()]
    if inner == out:
        return first
    return [*first, nn.Conv2d(inner, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


def train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Train for two epochs with a falling rate."""
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    generator = torch.Generator().manual_seed(1)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images), generator=generator)
        for some in order.split(BATCH)[: len(images) // BATCH]:
            loss = nn.functional.cross_entropy(model(images[some]), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def macs(model: nn.Module) -> int:
    """Return the multiply-adds of one image."""
    counted: list[int] = []

    def note(layer: nn.Module, _: object, output: Tensor) -> None:
        counted.append(layer.weight[0].numel() * output[0].numel())

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, SIDE, SIDE))
    for handle in handles:
        handle.remove()
    return sum(counted)


if __name__ == "__main__":
    main()
