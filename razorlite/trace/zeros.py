"""Which arithmetic leaves a channel 0 where it was 0."""

from torch import Tensor

from razorlite.trace.calls import Call

_ALWAYS = """
    relu relu6 leaky_relu gelu silu tanh hardswish elu neg mul multiply imul rmul
    dropout stochastic_depth stochasticdepth identity
"""  # functions and, in lower case, layers
_SUMS, _QUOTIENTS = ("add", "iadd", "sub", "isub"), ("div", "divide", "truediv", "itruediv")


def keeps_zeros(call: Call) -> bool:
    """Tell whether the result is 0 in channels in which all that carries channels is 0."""
    name, operands = call.name.lower(), len(call.maps())
    if name in _SUMS:
        return operands == 2
    if name in _QUOTIENTS:
        return operands == 1 and isinstance(call.args[0], Tensor)
    return name in _ALWAYS.split()
