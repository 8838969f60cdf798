"""A timer that tells the same times on any machine."""

from razorlite.cost import count


class Run:
    """A model that is timed by arithmetic."""

    def __init__(self, model, shape):
        self.model, self.shape = model, shape

    def __call__(self):
        return 2 + count(self.model, self.shape).macs / 1e5

    def resized(self, shape):
        return Run(self.model, shape)


class Counted:
    """A timer by arithmetic: 2 ms in any case, and a microsecond for 100 MACs.

    Layers by themselves may compute as if padded to 16 output channels.
    """

    def __init__(self, shape, padded=False):
        self.shape, self.padded = shape, padded
        self.conditions = {"runtime": "arithmetic", "threads": 1, "batch": 1}
        self.calls = 0

    def opened(self, model):
        return Run(model, self.shape)

    def opened_layer(self, layer, inputs):
        width = layer.out_channels
        macs = count(layer, (inputs,)).macs
        return lambda: macs / 1e5 * (-(-width // 16) * 16 / width) ** self.padded

    def in_turns(self, runs, rounds=None):
        self.calls += 1
        return {name: [run()] * 3 for name, run in runs.items()}
