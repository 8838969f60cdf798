"""How far to prune in each of several rounds."""


def polynomial_schedule(*, final: float, rounds: int, power: float = 3.0) -> list[float]:
    """Return the share to keep after each round, falling fast at first: the last is `final`.

    Args:
        final: share of the whole model's cost to end at, 0 to 1.
        rounds: number of rounds, at least 1.
        power: 1 falls evenly.

    To prune or not to prune, https://arxiv.org/abs/1710.01878, eq. 1.
    """
    return [final + (1 - final) * (1 - i / rounds) ** power for i in range(1, rounds + 1)]
