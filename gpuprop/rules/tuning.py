"""The law by which an optimizer finds its learning rate, in the language of rules, for every backend."""

from __future__ import annotations

from gpuprop.rules.rule import Rule

#: Over single numbers. `products`, `sizes` and `squares` are sums over all parameters: of the gradient's
#: component times that of the last step, of the moduli of such, and of the gradient's squares. Together the
#: first two say how far the gradient agrees with the step that was made along another: 1 where all components
#: point as they did, -1 where all have turned. The rate follows it (L. B. Almeida, T. Langlois,
#: J. D. Amaral and A. Plakhov, "Parameter adaptation in stochastic optimization", 1998; A. G. Baydin et al.,
#: "Online learning rate adaptation with hypergradient descent", ICLR 2018), and momentum is less where the
#: gradient has turned (B. O'Donoghue and E. Candes, "Adaptive restart for accelerated gradient schemes",
#: Found. Comput. Math. 15, 2015, whose restart is a whole one). As long as the gradient agrees from the start
#: on, the rate is multiplied by `growth`, for its scale is not known yet. Plain gradient descent, whose steps
#: are as long as the gradient, is `per_gradient`: its rate is divided by the gradient's root mean square.
#: `momentum` is 1 where there is no average of gradients, which could end steps that have gone astray: then
#: the rate brakes where nearly all components have turned. A step of a part of the parameters, a `share` of
#: them, changes the rate by as little, since each part goes on from a velocity of its own.
LAW = Rule(
    "learning_rate",
    ("products", "sizes", "squares", "old_rate", "old_growth", "old_scale"),
    ("rate", "growth", "scale", "found", "damped"),
    ("count", "share", "momentum", "per_gradient"),
    """
    agreement = where(sizes > 0, products / sizes, 0)
    agreement = where(agreement == agreement, agreement, 0)
    growth = where(sizes > 0, where(agreement > 0.5, old_growth, 1), old_growth)
    brake = where(momentum < 1, 0, 5 * max(-0.8 - agreement, 0))
    less = 1 / (1 + share * (brake - 0.1 * agreement))
    more = where(growth > 1, 1 / (1 - share * (1 - 1 / growth)), 1 + share * (0.1 * agreement))
    factor = where(agreement > 0, more, less)
    rate = max(min(old_rate * where(sizes > 0, factor, 1), 1e300), 1e-300)
    mean = squares / count
    recent = 0.03 * share
    scale = min(where(old_scale > 0, (1 - recent) * old_scale + recent * mean, mean), 1e300)
    found = where(per_gradient > 0, where(scale > 0, rate / sqrt(scale), 0), rate)
    damped = momentum * (1 + 0.25 * min(agreement, 0))
    """,
    fresh=("rate", "growth", "scale", "found", "damped"),
)
#: A state that no step has tuned yet: growth of its rate, and where that is known to be about right.
FAST, SLOW = 8.0, 1.2
