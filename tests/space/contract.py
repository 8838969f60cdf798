"""What holds of every search space, whatever varies in it."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from razorlite.cost import count, tabulate
from razorlite.space import Mutable, SearchSpace, Subnet
from razorlite.structures import example_inputs, tensors_in


@cache
def _space(contract: type["SpaceContract"]) -> SearchSpace:
    torch.manual_seed(0)
    space = contract().prepared(contract().plain())
    for module in space.model.modules():
        if isinstance(module, nn.BatchNorm2d):  # else wrong statistics would not show
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return space


@cache
def _costs(contract: type["SpaceContract"]):
    return tabulate(_space(contract), contract.shape)


class SpaceContract:
    """Inherit it and say how to build the supernet, and of what model.

    Attributes:
        shape: (height, width) of the images.
        exact: whether the set and the exported form run the same operations, to the bit.
        shares_weights: whether the largest subnet is the plain model.
    """

    shape = (64, 64)
    exact = True
    shares_weights = True

    def plain(self) -> nn.Module:
        """Return the model of which the supernet is made."""
        raise NotImplementedError

    def prepared(self, model: nn.Module) -> SearchSpace:
        """Make the supernet, in place."""
        raise NotImplementedError

    @pytest.fixture
    def space(self) -> SearchSpace:
        return _space(type(self))

    @pytest.fixture
    def costs(self):
        return _costs(type(self))

    def images(self, space: SearchSpace) -> Tensor:
        noise = torch.randn(1, 3, *self.shape, generator=torch.Generator().manual_seed(1))
        inputs = example_inputs(space.model, self.shape)
        return noise if isinstance(inputs, Tensor) else inputs

    @staticmethod
    def some(space: SearchSpace, number: int) -> Iterator[Subnet]:
        rng = np.random.default_rng(0)
        return (space.random(rng) for _ in range(number))

    def check_export(self, space: SearchSpace, subnet: Subnet) -> nn.Module:
        images = self.images(space)
        space.select(subnet)
        exported = space.export(subnet).eval()
        assert not any(isinstance(module, Mutable) for module in exported.modules())
        with torch.no_grad():
            pairs = zip(
                tensors_in(space.model.eval()(images)), tensors_in(exported(images)), strict=True
            )
        for ours, theirs in pairs:
            if self.exact:
                assert torch.equal(ours, theirs)
            else:
                assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        return exported

    def test_selected_equals_exported(self, space):
        for subnet in self.some(space, 2):
            exported = self.check_export(space, subnet)
            weights = space.chosen_weights(space.model.state_dict(), subnet)
            assert weights.keys() == exported.state_dict().keys()
            assert all(torch.equal(weights[n], v) for n, v in exported.state_dict().items())

    def test_the_largest_is_the_plain_model(self, space):
        if not self.shares_weights:
            pytest.skip("its choices have weights of their own")
        torch.manual_seed(0)
        plain = self.plain().eval()
        names = plain.state_dict().keys()
        state = {n: v for n, v in space.model.state_dict().items() if n in names}
        plain.load_state_dict(state)  # all of its names are the supernet's
        largest = self.prepared(self.plain()).selected
        space.select(largest)
        exported = space.export(largest).eval()
        images = self.images(space)
        with torch.no_grad():
            expected = list(tensors_in(plain(images)))
            for model in (space.model.eval(), exported):
                pairs = zip(tensors_in(model(images)), expected, strict=True)
                assert all(torch.equal(a, b) for a, b in pairs)
        assert exported.state_dict().keys() == names

    @pytest.mark.slow
    def test_fifty_selected_equal_exported_and_cost_what_the_table_says(self, space, costs):
        for number, subnet in enumerate(self.some(space, 50)):
            exported = self.check_export(space, subnet)
            if number >= 15:  # counting takes longer than running
                continue
            found = count(exported, self.shape)
            assert dict(costs(subnet)) == {"macs": found.macs, "params": found.params}
