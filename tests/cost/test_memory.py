"""Peak memory of activations, by hand."""

import torch
from torch import nn

from razorlite.cost import memory_trace, peak_memory

MAP = 4 * 8 * 8  # bytes of one channel


def layers(in_place):
    ends = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
    return nn.Sequential(ends[0], nn.ReLU(inplace=in_place), ends[1])


def test_maps_live_until_they_are_let_go():
    # the input stays with the caller; 8 channels, their activation, then 4 that need the activation
    expected = [3, 3 + 8, 3 + 8 + 8, 3 + 8 + 4]
    assert memory_trace(layers(False), (8, 8)) == [MAP * n for n in expected]
    assert peak_memory(layers(False), (8, 8)) == 19 * MAP


def test_what_is_computed_in_place_takes_none():
    assert memory_trace(layers(True), (8, 8)) == [MAP * n for n in (3, 11, 15)]


def test_a_shortcut_keeps_its_input():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x):
            x = self.a(x)
            return x + self.b(x)

    assert peak_memory(Residual(), (8, 8)) == (3 + 8 + 8 + 8) * MAP


def test_a_model_that_wants_values_and_is_left_as_it_is():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = layers(False)

        def forward(self, x):
            return (self.body(x) > 0).nonzero().tolist()

    model = Sorted()
    assert peak_memory(model, (torch.zeros(1, 3, 8, 8),)) >= 19 * MAP
    assert model.training
