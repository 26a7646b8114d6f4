"""What an update is: `Rule`, the language of its body, and the rules of the package.

Start with ``family.py``: the mathematics of every optimizer on one page. ``rule.py`` says what a rule is,
``arithmetic.py`` reads its body, and ``folding.py`` takes neutral options out of it. ``options.py`` has
what all rules can have around them, by ``composition.py``, and ``pairs.py`` writes rules out for complex
numbers. ``tuning.py`` is the law by which a learning rate is found. This room may import ``reference``.
"""

from gpuprop.rules.family import NEUTRAL, Rates, adagrad, adam, rmsprop, sgd
from gpuprop.rules.options import Around, around
from gpuprop.rules.rule import Rule, _unpickled  # the second by this name in pickles of 0.1.0
from gpuprop.rules.tuning import LAW

__all__ = [
    "LAW", "NEUTRAL", "Around", "Rates", "Rule", "_unpickled", "adagrad", "adam", "around", "rmsprop", "sgd",
]  # fmt: skip
