"""Losses with layers and memories of their own: FBKD, factor transfer, CRD."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.distill import (
    CRD,
    FBKD,
    FactorTransfer,
    NonLocalConnector,
)
from razorlite.distill.connectors import NonLocalBlock
from razorlite.engine.exchange import average_tensors

CHANNELS = {"student_channels": 3, "teacher_channels": 4}


def maps():
    return torch.randn(2, 3, 4, 6, requires_grad=True), torch.randn(2, 4, 4, 6)


def test_non_local_relations_in_a_loop():
    block, some = NonLocalBlock(4), torch.randn(2, 4, 3, 5)
    assert_close(block(some), some)  # adds nothing at first
    nn.init.normal_(block.out.weight)
    query, key, value = (f(some).flatten(2) for f in (block.query, block.key, block.value))
    gathered = torch.zeros(2, 2, 15)
    for n in range(2):
        for i in range(15):
            for j in range(15):
                gathered[n, :, i] += (query[n, :, i] @ key[n, :, j]) * value[n, :, j] / 15
    expected = some + block.out(gathered.unflatten(2, (3, 5)))
    assert_close(block(some), expected, rtol=1e-4, atol=1e-5)
    assert NonLocalConnector(**CHANNELS, pool=2)(maps()[0]).shape == (2, 4, 4, 6)


def test_fbkd_is_four_distances():
    student, teacher = maps()
    loss = FBKD(**CHANNELS, weight=2.0, features=3.0, channels=5.0, space=7.0, relations=11.0)
    mask = torch.zeros(2, 1, 4, 6)
    for n in range(2):
        for side in (student, teacher):
            shares = (side[n].abs().mean(0).flatten() / 0.5).softmax(0) * 24
            mask[n, 0] += shares.reshape(4, 6).detach() / 2
    total = 3 * (mask * (loss.adapt(student) - teacher) ** 2).sum().sqrt()
    means = loss.adapt_channels(student.mean((2, 3))) - teacher.mean((2, 3))
    total = total + 5 * (means**2).sum().sqrt()
    over = loss.adapt_space(student.mean(1, keepdim=True)) - teacher.mean(1, keepdim=True)
    total = total + 7 * (over**2).sum().sqrt()
    total = total + 11 * ((loss.relate.conv(student) - teacher) ** 2).sum().sqrt()
    assert_close(loss(student, teacher), 2 * total)
    loss(student, teacher).backward()
    assert all(p.grad is not None for p in loss.adapt.parameters())


def test_the_paraphraser_learns_first_and_is_then_frozen():
    loss, (student, teacher) = FactorTransfer(**CHANNELS, paraphraser_steps=2), maps()
    for _ in range(2):
        value = loss(student, teacher)
        assert_close(value, F.mse_loss(loss.reader(loss.paraphraser(teacher)), teacher))
        value.backward()
    assert student.grad is None
    assert loss.translator[0].weight.grad is None
    before = loss.paraphraser[0].weight.grad.clone()
    ours, theirs = loss.translator(student).flatten(1), loss.paraphraser(teacher).flatten(1)
    assert ours.shape == (2, 2 * 24)
    units = [x / x.norm(dim=1, keepdim=True) for x in (ours, theirs)]
    value = loss(student, teacher)
    assert_close(value, (units[0] - units[1]).abs().mean())
    value.backward()
    assert student.grad.abs().sum() > 0
    assert_close(loss.paraphraser[0].weight.grad, before)


def test_the_paraphraser_learns_for_so_many_steps_whatever_they_compare():
    loss, (student, teacher) = FactorTransfer(**CHANNELS, paraphraser_steps=2), maps()
    own = F.mse_loss(loss.reader(loss.paraphraser(teacher)), teacher)
    losses = [loss(student, teacher, step=n).item() for n in (5, 5, 5, 8, 8, 9, 9)]
    assert [value == own.item() for value in losses] == [True] * 5 + [False] * 2


def contrast(**options):
    torch.manual_seed(3)
    return CRD(**CHANNELS, embedding=5, memory=8, negatives=6, **options)


def slow_contrast(loss, student, teacher, chosen):
    """Eq. 18 for each image in turn, both ways; `chosen` are its negatives in the memory."""
    ours = F.normalize(loss.embed_student(student.mean((2, 3))), dim=1)
    theirs = F.normalize(loss.embed_teacher(teacher.mean((2, 3))), dim=1)
    sides = ((ours, theirs, loss.teacher_memory), (theirs, ours, loss.student_memory))
    total = 0.0
    for own, other, memory in sides:
        scores = [[(own[i] @ memory[k] / 0.07).exp() for k in row] for i, row in enumerate(chosen)]
        scale = 8 * torch.stack([s for row in scores for s in row]).mean().detach()
        for i, row in enumerate(scores):
            itself = (own[i] @ other[i] / 0.07).exp() / scale
            total = total - (itself / (itself + 6 / 8)).log() / len(own)
            for score in row:
                total = total - (1 - score / scale / (score / scale + 6 / 8)).log() / len(own)
    return total


def test_contrast_in_a_loop(monkeypatch):
    loss, (student, teacher) = contrast(), maps()
    drawn = []
    draw = torch.multinomial
    monkeypatch.setattr(
        torch, "multinomial", lambda *a, **k: drawn.append(draw(*a, **k)) or drawn[-1]
    )
    value = loss(student, teacher, labels=tensor([0, 1]))
    assert drawn[0].tolist() == [[1] * 6, [0] * 6]  # the only image of another class
    expected = slow_contrast(loss, student, teacher, drawn[0])
    assert_close(value, expected, rtol=1e-4, atol=1e-4)
    for layer in (loss.embed_student, loss.embed_teacher):
        ways = [
            torch.autograd.grad(v, layer.weight, retain_graph=True)[0] for v in (value, expected)
        ]
        assert_close(*ways, rtol=1e-3, atol=1e-4)


def test_the_memory_is_of_the_last_images():
    loss, (student, teacher) = contrast(), maps()
    for label in (0, 0, 1, 2, 3):
        value = loss(student, teacher, labels=tensor([label, label]))
        assert (value == 0) == (not loss.scales.any())
    assert loss.labels.tolist() == [3, 3, 0, 0, 1, 1, 2, 2]
    assert loss.position == 2


def test_contrast_goes_on_exactly_from_its_state():
    loss, (student, teacher) = contrast(), maps()
    labels = tensor([0, 1])
    loss(student, teacher, labels=labels)
    state, random = copy.deepcopy(loss.state_dict()), torch.get_rng_state()
    expected = [loss(student, teacher, labels=labels + i) for i in range(4)]
    other = contrast()
    other.load_state_dict(state)
    torch.set_rng_state(random)
    assert [other(student, teacher, labels=labels + i) for i in range(4)] == expected


def images(step):
    """Return a batch of student's maps, teacher's maps and labels."""
    generator = torch.Generator().manual_seed(step)
    ours, theirs = (torch.randn(4, c, 2, 2, generator=generator) for c in (3, 4))
    return ours, theirs, torch.randint(3, (4,), generator=generator)


def contrasted(rank=0, world=1):
    """Return mean gradients of four batches, of which each process has its share, and the state."""
    loss, gradients = contrast(), []
    torch.manual_seed(5 + rank)
    for step in range(4):
        ours, theirs, labels = (part[rank::world] for part in images(step))
        loss.zero_grad()
        torch.manual_seed(10 * step + rank)
        (loss(ours, theirs, labels=labels) + 0 * loss.embed_student.weight.sum()).backward()
        gradients += [p.grad.clone() for p in loss.parameters() if p.grad is not None]
    average_tensors(gradients)
    return gradients, {k: v for k, v in loss.state_dict().items() if "embed" not in k}


def contrasting_process(rank, path):
    torch.distributed.init_process_group("gloo", f"file://{path}", rank=rank, world_size=2)
    torch.save(contrasted(rank, 2), f"{path}.{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_contrast_as_one_with_the_joined_batch(tmp_path):
    torch.multiprocessing.spawn(contrasting_process, (tmp_path / "file",), nprocs=2)
    whole = contrasted()
    for rank in (0, 1):
        gradients, state = torch.load(tmp_path / f"file.{rank}")
        assert_close(gradients, whole[0], rtol=1e-4, atol=1e-5)
        assert_close(state, whole[1])
